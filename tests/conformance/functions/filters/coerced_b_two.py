"""Contract 3.1: a priority between whole numbers."""
from pydantic import BaseModel


class Filter:
    class Valves(BaseModel):
        priority: float = 2.5

    def inlet(self, body):
        body.setdefault("trace", []).append("two")
        return body
