"""Contract 6.2: with nothing stored the values are `Valves()`."""
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        word: str = "default"

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body):
        return self.valves.word
