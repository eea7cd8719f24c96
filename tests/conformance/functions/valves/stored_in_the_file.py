"""Contract 6.2: stored values go above the class's."""
import json

from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        word: str = "default"
        count: int = 1
        other: str = "kept"

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body):
        return json.dumps([self.valves.word, self.valves.count, self.valves.other])
