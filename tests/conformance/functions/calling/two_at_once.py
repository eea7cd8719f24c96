"""Contract 2.2: a sync pipe that blocks. Each call waits until the other one is there."""
import threading

BOTH = threading.Barrier(2)


class Pipe:
    def pipe(self, body):
        BOTH.wait(20)
        return "met"
