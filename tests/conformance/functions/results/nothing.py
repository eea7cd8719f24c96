"""Contract 2.3: None."""


class Pipe:
    async def pipe(self, body):
        pass
