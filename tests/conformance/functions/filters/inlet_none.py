"""Contract 3.4: inlet that returns None."""


class Filter:
    def inlet(self, body):
        body["messages"][-1]["content"] = "lost"
