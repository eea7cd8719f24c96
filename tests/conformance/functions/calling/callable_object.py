"""Contract 2.2: any callable attribute."""


class Caller:
    async def __call__(self, body):
        return "an object"


class Pipe:
    pipe = Caller()
