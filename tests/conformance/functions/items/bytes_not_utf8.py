"""Contract 2.3: bytes that cannot be decoded."""


class Pipe:
    def pipe(self, body):
        yield "before "
        yield b"\xff"
