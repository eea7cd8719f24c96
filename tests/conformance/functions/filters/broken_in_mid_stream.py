class Pipe:
    def pipe(self, body):
        yield from ("one ", "two ", "three")
