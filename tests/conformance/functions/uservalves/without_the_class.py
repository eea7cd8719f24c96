"""Contract 6.3: no key `valves` when the class defines no UserValves."""
import json


class Pipe:
    def pipe(self, body, __user__):
        return json.dumps("valves" in __user__)
