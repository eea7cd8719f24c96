"""Contract 6.2: no `self.valves` in `__init__`: nothing is injected."""
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        word: str = "default"

    def pipe(self, body):
        return self.valves.word
