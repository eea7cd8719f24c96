"""The pipe of `hook_*`: what filters did to the body. Contract 3.2."""
import json


class Pipe:
    def pipe(self, body, __metadata__):
        return json.dumps({key: value for key, value in body.items() if key.startswith("x_")}, sort_keys=True)
