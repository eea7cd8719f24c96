"""Contract 2.4: an exception before the result exists."""


class Pipe:
    def pipe(self, body):
        raise ValueError("nothing to say")
