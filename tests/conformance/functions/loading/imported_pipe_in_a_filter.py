"""Contract 1.7: `from multiprocessing import Pipe` in a filter."""
from multiprocessing import Pipe

assert Pipe


class Filter:
    def inlet(self, body):
        return body
