"""Contract 2.2: a `body` that takes no keyword."""


class Pipe:
    def pipe(self, body, /):
        return "never"
