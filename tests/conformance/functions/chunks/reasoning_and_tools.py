"""Contract 2.5: reasoning, tool calls and annotations in chunks; an API caller just gets the chunk."""


def chunk(**delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


class Pipe:
    def pipe(self, body):
        yield chunk(reasoning_content="thinking")
        yield chunk(tool_calls=[{"index": 0, "id": "t", "function": {"name": "add", "arguments": "{}"}}])
        yield chunk(annotations=[{"type": "url_citation", "url_citation": {"url": "https://example.org"}}])
        yield "<think>in text</think>"
