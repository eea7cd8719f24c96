"""Contract 2.1: an exception in `pipes`."""


class Pipe:
    def pipes(self):
        raise RuntimeError("no list today")

    def pipe(self, body):
        return body["model"]
