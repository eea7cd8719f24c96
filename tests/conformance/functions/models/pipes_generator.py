"""Contract 2.1: `pipes` as a generator."""


class Pipe:
    def pipes(self):
        yield {"id": "one", "name": "One"}
        yield {"id": "two", "name": "Two"}

    def pipe(self, body):
        return body["model"]
