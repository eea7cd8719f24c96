"""Contract 2.3: a dict of any shape is an event as it is."""


class Pipe:
    def pipe(self, body):
        yield {"choices": [{"index": 0, "delta": {"content": "from a chunk"}, "finish_reason": None}]}
        yield {"usage": {"total_tokens": 2}}
        yield {"selected_model_id": "other"}
