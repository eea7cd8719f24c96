"""Contract 2.3: a coroutine function that returns a generator."""


class Pipe:
    async def pipe(self, body):
        return (word for word in ("one ", "two"))
