"""Contract 3.1: `filter_ids` cannot add a filter that is neither global nor attached."""


class Filter:
    toggle = True

    def inlet(self, body):
        body.setdefault("marks", []).append("must not be here")
        return body
