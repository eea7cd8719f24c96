"""Contract 7.4: `request.state.metadata` is the request's, in each hook."""


class Filter:
    def inlet(self, body, __request__):
        __request__.state.metadata["mark"] = "inlet"
        body["seen"] = [__request__.state.metadata["chat_id"], str(__request__.state.metadata is body["metadata"])]
        return body

    def request(self, body, __request__, __metadata__):
        body["seen"].append(__request__.state.metadata["mark"])
        body["seen"].append(str(__request__.state.metadata is __metadata__))
        return body

    def outlet(self, body, __request__):
        body["messages"][-1]["content"] += " " + __request__.state.metadata["mark"]
        return body
