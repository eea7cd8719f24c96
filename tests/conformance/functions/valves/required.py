"""Contract 6.2: a required field without a default; `__init__` does not build the valves."""
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        address: str

    def pipe(self, body):
        return self.valves.address
