"""The pipe of filters with toggles. Contract 3.1."""


class Pipe:
    def pipe(self, body):
        return " ".join(body.get("marks", []))
