class Pipe:
    def pipe(self, body):
        return "answered"
