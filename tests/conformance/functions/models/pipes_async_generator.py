"""Contract 2.1: `pipes` as an async generator."""


class Pipe:
    async def pipes(self):
        yield {"id": "one", "name": "One"}

    def pipe(self, body):
        return body["model"]
