class Pipe:
    def pipe(self, body):
        yield {"choices": [{"index": 0, "delta": {"content": "said"}, "finish_reason": None}]}
        yield {"usage": {"total_tokens": 2}}
        yield {"sources": [{"source": {"name": "a"}}]}
