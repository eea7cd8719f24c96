"""Contract 3.2: attributes that are called like a hook and are none are skipped silently."""


class Filter:
    inlet = "not a hook"
    stream = None

    def __init__(self):
        self.outlet = {"not": "a hook"}
