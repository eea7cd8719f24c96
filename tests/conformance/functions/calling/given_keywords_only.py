"""Contract 2.2: `**kwargs` receives nothing; keyword-only parameters work."""
import json


class Pipe:
    def pipe(self, *, body, __user__, **kwargs):
        return json.dumps([type(body).__name__, __user__["email"], kwargs])
