"""Contract 2.4: an exception inside a generator."""


class Pipe:
    async def pipe(self, body):
        yield "one "
        raise ValueError("broke midway")
