"""Contract 1.7: the attribute may be another name of a class."""


class Translator:
    def pipe(self, body):
        return "by another name"


Pipe = Translator
