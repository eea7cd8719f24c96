"""Contract 5: what an event function is given by name; `self.valves` is set as usual."""
import json

from pydantic import BaseModel


class Event:
    class Valves(BaseModel):
        word: str = "default"

    def __init__(self):
        self.valves = self.Valves()

    async def event(self, event, __event__, __event_name__, __event_id__, __id__, __app__, __request__):
        if (event["subject"] or {}).get("id") != "watched":
            return
        told = {
            "event": event,
            "same": __event__ is event,
            "name": __event_name__,
            "id_is_events": __event_id__ == event["id"],
            "id": __id__,
            "app": type(__app__).__name__,
            "request": __request__ is None,
            "valves": self.valves.word,
        }
        print("told", json.dumps(told))
