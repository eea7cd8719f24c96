class Pipe:
    def pipe(self, body):
        yield "one"
