"""Contract 2.3: a dict that is a completion object."""


class Pipe:
    def pipe(self, body):
        message = {"role": "assistant", "content": "whole"}
        return {
            "id": "mine",
            "object": "chat.completion",
            "created": 7,
            "model": "own",
            "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
            "usage": {"total_tokens": 3},
        }
