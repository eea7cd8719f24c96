"""Contract 2.1: `pipes` as a list, and ids with `.`, `/` and `:`."""
import json


class Pipe:
    name = "Maker: "
    pipes = [
        {"id": "a.b", "name": "Dotted", "dropped": True},
        {"id": "org/model", "name": "Slashed"},
        {"id": "model:7b", "name": "Tagged"},
    ]

    def pipe(self, body):
        return json.dumps([body["model"], body["model"].split(".", 1)[1]])
