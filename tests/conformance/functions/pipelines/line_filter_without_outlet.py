"""Contract 10.4: a hook that is missing gives the body back; one that raises is an error."""
from pydantic import BaseModel


class Pipeline:
    class Valves(BaseModel):
        pipelines: list = ["a model that is not there"]
        priority: int = 0

    def __init__(self):
        self.type = "filter"
        self.name = "Raises"
        self.valves = self.Valves()

    async def inlet(self, body, user):
        raise RuntimeError("not this one")
