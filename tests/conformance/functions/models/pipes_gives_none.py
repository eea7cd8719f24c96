"""Contract 2.1: `pipes` that gives None."""


class Pipe:
    def pipes(self):
        return None

    def pipe(self, body):
        return body["model"]
