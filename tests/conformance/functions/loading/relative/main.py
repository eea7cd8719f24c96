"""Contract 1.7: relative imports fail in the peer; here a folder is a package."""
from .helper import WORD


class Pipe:
    def pipe(self, body):
        return WORD
