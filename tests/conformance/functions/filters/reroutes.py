"""Contract 3.2: setting `body["model"]` reroutes the request."""


class Filter:
    def inlet(self, body):
        body["model"] = body["messages"][-1]["content"]
        return body
