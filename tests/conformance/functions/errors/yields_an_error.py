"""Contract 2.4: a yielded `{"error": X}`; the stream goes on."""


class Pipe:
    def pipe(self, body):
        yield "one "
        yield {"error": {"message": "quota used up", "code": 429}}
        yield "two"
