"""Contract 3.1: a priority that is no number."""
from pydantic import BaseModel


class Filter:
    class Valves(BaseModel):
        priority: str = "high"

    def inlet(self, body):
        body.setdefault("trace", []).append("inlet text")
        return body
