"""Contract 3.4: an exception in outlet is swallowed."""


class Filter:
    def outlet(self, body):
        raise ValueError("no outlet today")
