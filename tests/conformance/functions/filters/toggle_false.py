"""Contract 3.1: `toggle = False` means always on."""


class Filter:
    toggle = False

    def inlet(self, body):
        body.setdefault("marks", []).append("always")
        return body
