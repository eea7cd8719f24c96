"""Contract 3.1: a stored priority goes above the class's."""
from pydantic import BaseModel


class Filter:
    class Valves(BaseModel):
        priority: int = -100

    def __init__(self):
        self.valves = self.Valves()

    def inlet(self, body):
        body.setdefault("trace", []).append("inlet last")
        return body

    def request(self, body):
        body["trace"].append("request last")
        return body

    def stream(self, event):
        event.setdefault("trace", []).append("stream last")
        return event

    def outlet(self, body):
        body["messages"][-1]["content"] += " last"
        return body
