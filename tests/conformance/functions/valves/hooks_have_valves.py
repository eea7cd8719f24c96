"""Contract 6.2: valves are there in each hook of a filter."""
from pydantic import BaseModel


class Filter:
    class Valves(BaseModel):
        word: str = "default"

    def __init__(self):
        self.valves = self.Valves()

    def inlet(self, body):
        body["seen"] = ["inlet", self.valves.word]
        return body

    def request(self, body):
        body["seen"] += ["request", self.valves.word]
        return body

    def stream(self, event):
        event["seen"] = self.valves.word
        return event

    def outlet(self, body):
        body["messages"][-1]["content"] += " outlet " + self.valves.word
        return body
