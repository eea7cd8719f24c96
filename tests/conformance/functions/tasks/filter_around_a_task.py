"""Contract 2.6, 3.2: no filter runs for tasks."""


class Filter:
    def inlet(self, body, __task__):
        body["messages"][-1]["content"] += f" (filtered, {__task__})"
        return body
