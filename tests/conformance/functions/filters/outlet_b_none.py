"""Contract 3.4: an outlet that returns None."""


class Filter:
    def outlet(self, body):
        body["messages"][-1]["content"] = "lost"
