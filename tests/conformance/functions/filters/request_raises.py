"""Contract 3.4: an exception in request."""


class Filter:
    def request(self, body):
        raise ValueError("not at last")
