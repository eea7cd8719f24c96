"""Contract 6.3: the filters of one request share one `__user__`."""


class Filter:
    def inlet(self, body, __user__):
        body["seen"].append(str("valves" in __user__))
        return body
