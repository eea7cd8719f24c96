"""Contract 3.2: keys added to metadata in inlet are there in request, stream, outlet and the pipe."""


class Filter:
    def inlet(self, body, __metadata__):
        __metadata__["mark"] = "inlet"
        __metadata__["features"] = {"overwritten": True}
        body["features"] = {"memory": True}
        body["files"] = [{"id": "f"}]
        body["tool_ids"] = ["t"]
        body["tools"] = [{"type": "function", "function": {"name": "added"}}]
        return body

    def request(self, body, __metadata__):
        __metadata__["later"] = __metadata__["mark"] + " request"
        return body

    def stream(self, event, __metadata__):
        event["seen"] = __metadata__["later"]
        return event

    def outlet(self, body, __metadata__):
        body["messages"][-1]["content"] += " | " + __metadata__["later"]
        return body
