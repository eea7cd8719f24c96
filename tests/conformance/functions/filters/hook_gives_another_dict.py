"""Contract 3.2: a returned dict becomes the body; one without `metadata` is fine."""


class Filter:
    def inlet(self, body):
        return {"model": body["model"], "messages": body["messages"], "x_new": "dict"}
