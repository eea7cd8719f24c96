"""The pipe of stream filters. Contract 3.2, 3.6."""


class Pipe:
    def pipe(self, body):
        yield "one "
        yield {"usage": {"total_tokens": 2}}
        yield {"event": {"type": "status", "data": {"done": True}}}
        yield {"selected_model_id": "other"}
        yield {"sources": [{"source": {"name": "a"}}]}
        yield {"error": {"message": "only told"}}
        yield "two"
