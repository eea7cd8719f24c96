"""The pipe of `inlet_raises`; it must not be called. Contract 3.4."""


class Pipe:
    def pipe(self, body):
        print("the model was called")
        return "never"
