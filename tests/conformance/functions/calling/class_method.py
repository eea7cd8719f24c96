"""Contract 2.2: a class method."""


class Pipe:
    word = "class"

    @classmethod
    async def pipe(cls, body):
        return cls.word
