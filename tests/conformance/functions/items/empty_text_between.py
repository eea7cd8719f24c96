"""Contract 2.3: `""` in the middle of a stream."""


class Pipe:
    def pipe(self, body):
        yield "one "
        yield ""
        yield "two"
