"""Contract 3.1: an attached filter that is not active is ignored."""


class Filter:
    def inlet(self, body):
        body.setdefault("marks", []).append("must not be here")
        return body
