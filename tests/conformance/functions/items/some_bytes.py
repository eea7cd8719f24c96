"""Contract 2.3: bytes are decoded, then as str."""


class Pipe:
    def pipe(self, body):
        yield "ü".encode()
        yield b'data: {"ready": "made"}'
