"""Contract 2.2: a sync method that gives a coroutine."""


class Pipe:
    def pipe(self, body):
        return self.later()

    async def later(self):
        return "awaited"
