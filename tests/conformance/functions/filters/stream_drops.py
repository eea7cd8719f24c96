"""Contract 3.2: what is falsy drops the event, a dict replaces it."""


class Filter:
    def stream(self, event):
        said = event["choices"][0]["delta"].get("content")
        if said == "one ":
            return None
        if said == "two ":
            return {}
        if said == "three ":
            return {"choices": [{"index": 0, "delta": {"content": "THREE "}, "finish_reason": None}]}
        return event
