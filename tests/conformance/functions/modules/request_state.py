"""The pipe of `request_state_in_filters`."""


class Pipe:
    def pipe(self, body):
        return " ".join(body["seen"])
