"""Contract 3.1: the lowest priority comes first, whatever its id."""
from pydantic import BaseModel


class Filter:
    class Valves(BaseModel):
        priority: int = -5

    def inlet(self, body):
        body.setdefault("trace", []).append("inlet first")
        return body

    def request(self, body):
        body["trace"].append("request first")
        return body

    def stream(self, event):
        event.setdefault("trace", []).append("stream first")
        return event

    def outlet(self, body):
        body["messages"][-1]["content"] += " first"
        return body
