"""Contract 3.1: an instance with a truthy toggle takes part if the request names it."""


class Filter:
    def __init__(self):
        self.toggle = True

    def inlet(self, body):
        body.setdefault("marks", []).append("toggled")
        return body
