"""Contract 2.3: text that begins with `data:` is sent verbatim; a `[DONE]` of its own too."""


class Pipe:
    def pipe(self, body):
        yield 'data: {"n": 1}'
        yield 'data:{"n":2}\n\n'
        yield "data: [DONE]"
        yield "after"
