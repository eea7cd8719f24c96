"""Contract 2.3: bytes."""


class Pipe:
    def pipe(self, body):
        return "raw ü".encode()
