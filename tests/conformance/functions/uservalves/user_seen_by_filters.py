"""The pipe of two filters of which one has UserValves."""


class Pipe:
    def pipe(self, body):
        return " ".join(body["seen"])
