"""Contract 3.1: a priority that is stored as text is a number to its class."""
from pydantic import BaseModel


class Filter:
    class Valves(BaseModel):
        priority: int = 0

    def inlet(self, body):
        body.setdefault("trace", []).append("ten")
        return body
