"""Contract 6.2: values given in `__init__` are lost on the first call."""
import json

from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        word: str = "default"
        other: str = "default"

    def __init__(self):
        self.valves = self.Valves(word="constructor", other="constructor")

    def pipe(self, body):
        return json.dumps([self.valves.word, self.valves.other])
