"""Contract 2.5: `{"event": E}` in a stream."""


class Pipe:
    def pipe(self, body):
        yield {"event": {"type": "status", "data": {"description": "working", "done": False}}}
        yield "text"
