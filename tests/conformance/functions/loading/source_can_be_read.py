"""Contract 1.7: the code's file name."""
import inspect


class Pipe:
    def pipe(self, body):
        return inspect.getsource(Pipe.pipe).strip().splitlines()[0]
