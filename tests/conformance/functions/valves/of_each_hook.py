"""The pipe of `hooks_have_valves`."""


class Pipe:
    def pipe(self, body):
        return " ".join(body["seen"])
