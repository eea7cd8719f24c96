"""Contract 2.3: None among the items."""


class Pipe:
    def pipe(self, body):
        yield "one "
        yield None
        yield "two"
