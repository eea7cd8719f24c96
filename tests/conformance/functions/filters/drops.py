"""The pipe of `stream_drops`. Contract 3.2."""


class Pipe:
    def pipe(self, body):
        yield from ("one ", "two ", "three ", "four")
