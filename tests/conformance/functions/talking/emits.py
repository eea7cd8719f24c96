"""Contract 8.1: the emitter takes any event and returns nothing."""
import json


class Pipe:
    async def pipe(self, body, __event_emitter__):
        wrong = ""
        try:
            await __event_emitter__("no dict")
        except (TypeError, AttributeError) as exc:
            wrong = type(exc).__name__
        returned = [
            await __event_emitter__({"type": "status", "data": {"description": "working", "done": False, "own": 1}}),
            await __event_emitter__({"type": "citation", "data": {"document": ["d"], "metadata": [{"source": "s"}]}}),
            await __event_emitter__({"type": "a type of my own"}),
        ]
        return json.dumps([returned, wrong])
