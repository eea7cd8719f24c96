"""Contract 2.3: a sync generator."""


class Pipe:
    def pipe(self, body):
        yield "one "
        yield "two"
