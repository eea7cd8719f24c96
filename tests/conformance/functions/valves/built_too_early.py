"""Contract 6.2: `self.valves = self.Valves()` with a required field."""
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        address: str

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body):
        return self.valves.address
