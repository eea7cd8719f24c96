"""Contract 3.2: what is in the body that inlet and request get."""
import json


class Filter:
    def inlet(self, body, __metadata__):
        told = {key: body.get(key) for key in ("features", "files", "tool_ids", "temperature", "mine")}
        gone = ("params", "variables", "filter_ids", "chat_id", "id", "session_id")
        told["gone"] = [key for key in gone if key in body]
        told["stream"] = body["stream"]
        told["same"] = body["metadata"] is __metadata__
        told["in_metadata"] = [__metadata__["chat_id"], __metadata__["session_id"], __metadata__["message_id"]]
        self.told = told
        return body

    def request(self, body, __metadata__):
        self.told["same_at_request"] = body["metadata"] is __metadata__
        self.told["at_request"] = [key for key in ("features", "files", "tool_ids") if key in body]
        body["messages"][-1]["content"] = json.dumps(self.told)
        return body
