"""Contract 3.5: the body that outlet gets."""
import json


class Filter:
    def outlet(self, body):
        body["messages"][-1]["content"] = json.dumps(body)
        return body
