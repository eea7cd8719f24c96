"""Contract 2.3: a dict of any shape."""


class Pipe:
    def pipe(self, body):
        return {"answer": 42, "nested": {"of": ["any", "shape"]}}
