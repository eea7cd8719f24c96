"""Contract 6.1: what an update stores, and what is read back."""
import json
from typing import Literal

from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        a: int = 1
        b: int = 2
        mode: Literal["fast", "good"] = "fast"

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body):
        return json.dumps([self.valves.a, self.valves.b])
