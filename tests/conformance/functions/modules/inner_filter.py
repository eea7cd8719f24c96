"""Contract 9.1: nested completions run no filters."""


class Filter:
    def inlet(self, body):
        body["messages"][-1]["content"] += " (filtered)"
        return body
