"""Contract 8.2: the reply of `__event_call__`."""
import json


class Pipe:
    async def pipe(self, body, __event_call__):
        question = {"type": body["messages"][-1]["content"], "data": {"title": "t", "message": "m"}}
        return json.dumps(await __event_call__(question))
