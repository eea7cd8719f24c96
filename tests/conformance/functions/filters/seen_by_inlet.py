"""The pipe of `inlet_tells`: it says what the inlet wrote down. Contract 3.2."""


class Pipe:
    def pipe(self, body):
        return body["messages"][-1]["content"]
