"""Contract 6.1: unknown keys stay if the class allows extras."""
from pydantic import BaseModel, ConfigDict


class Pipe:
    class Valves(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int = 1

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body):
        return str(self.valves.b)
