"""Contract 1.7: what makes the instance may be a function."""


class Real:
    def __init__(self, word):
        self.word = word

    def pipe(self, body):
        return self.word


def Pipe():
    return Real("made by a factory")
