"""Contract 1.5: a file's own `utils` is shadowed."""
from utils.words import WORD


class Pipe:
    def pipe(self, body):
        return WORD
