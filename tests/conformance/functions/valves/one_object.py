"""Contract 6.2: a new object per call, on the shared instance."""
import json

from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        word: str = "default"

    def __init__(self):
        self.valves = self.Valves()
        self.seen = None

    async def pipe(self, body):
        same = self.seen is self.valves
        self.seen = self.valves
        return json.dumps(same)
