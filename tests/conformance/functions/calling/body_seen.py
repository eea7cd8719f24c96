"""Contract 2.2: what is in the body."""
import json


class Pipe:
    async def pipe(self, body):
        return json.dumps(body)
