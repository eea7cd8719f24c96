"""Contract 1.10, 2.1: a pipe that is not active."""


class Pipe:
    def pipe(self, body):
        return "never"
