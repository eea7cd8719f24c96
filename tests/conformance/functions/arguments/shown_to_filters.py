"""The pipe of `all_in_a_filter`."""
import json


class Pipe:
    def pipe(self, body):
        return json.dumps(body["told"])
