"""Contract 3.1: no priority counts as 0; of equal ones the id decides."""


class Filter:
    def inlet(self, body):
        body.setdefault("trace", []).append("inlet tie b")
        return body

    def request(self, body):
        body["trace"].append("request tie b")
        return body

    def stream(self, event):
        event.setdefault("trace", []).append("stream tie b")
        return event

    def outlet(self, body):
        body["messages"][-1]["content"] += " b"
        return body
