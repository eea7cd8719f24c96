"""Contract 2.3: an async generator."""


class Pipe:
    async def pipe(self, body):
        yield "one "
        yield "two"
