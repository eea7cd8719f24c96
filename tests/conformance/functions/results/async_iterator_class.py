"""Contract 2.3: a class with `__aiter__`."""


class Words:
    def __aiter__(self):
        self.left = ["one ", "two"]
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


class Pipe:
    def pipe(self, body):
        return Words()
