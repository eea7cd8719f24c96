"""Contract 1.7: the instance is made without arguments."""


class Pipe:
    def __init__(self, key):
        self.key = key

    def pipe(self, body):
        return self.key
