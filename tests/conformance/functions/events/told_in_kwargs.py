"""Contract 5: unlike in other kinds, `**kwargs` receives all of them. Methods may be sync."""
import json


class Event:
    def event(self, event, **kwargs):
        if (event["subject"] or {}).get("id") == "watched":
            print("kwargs", json.dumps(sorted(kwargs)))
