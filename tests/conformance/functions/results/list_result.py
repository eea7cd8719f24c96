"""Contract 2.3: a list."""


class Pipe:
    def pipe(self, body):
        return ["one", "two"]
