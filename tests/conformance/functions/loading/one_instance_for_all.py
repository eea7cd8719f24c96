"""Contract 1.1, 1.8: one instance per process, shared by every user and every request; module state stays."""
import json

CALLS = []


class Pipe:
    def __init__(self):
        self.calls = 0

    async def pipe(self, body, __user__):
        self.calls += 1
        CALLS.append(__user__["email"])
        return json.dumps([self.calls, len(CALLS)])
