"""Contract 2.2: sync generators that block."""
import threading

BOTH = threading.Barrier(2)


class Pipe:
    def pipe(self, body):
        yield "we "
        BOTH.wait(20)
        yield "met"
