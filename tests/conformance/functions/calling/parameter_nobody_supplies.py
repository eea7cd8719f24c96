"""Contract 2.2: a required parameter that the host does not know."""


class Pipe:
    def pipe(self, body, response):
        return "never"
