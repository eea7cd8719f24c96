"""Contract 2.3: an int among the items."""


class Pipe:
    def pipe(self, body):
        yield "one "
        yield 7
