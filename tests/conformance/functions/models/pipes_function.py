"""Contract 2.1: `pipes` as a function; it sees the valves."""
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        sizes: str = "s"

    def __init__(self):
        self.valves = self.Valves()

    def pipes(self):
        return [{"id": size, "name": size.upper()} for size in self.valves.sizes.split(",")]

    def pipe(self, body):
        return body["model"]
