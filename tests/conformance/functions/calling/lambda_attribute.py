"""Contract 2.2: a lambda."""


class Pipe:
    def __init__(self):
        self.pipe = lambda body: "lambda"
