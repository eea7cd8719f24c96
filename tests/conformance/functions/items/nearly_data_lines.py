"""Contract 2.3: any other text is content."""


class Pipe:
    def pipe(self, body):
        yield " data: x"
        yield "event: y\ndata: z"
