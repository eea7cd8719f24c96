"""Contract 3.4: the outlet behind those that failed."""


class Filter:
    def outlet(self, body):
        body["messages"][-1]["content"] += " and outlet"
        return body
