"""Contract 2.6: `__task__` and `__task_body__`."""
import json


class Pipe:
    def pipe(self, body, __task__, __task_body__, __metadata__):
        return json.dumps([__task__, __task_body__, __metadata__.get("task"), "metadata" in body])
