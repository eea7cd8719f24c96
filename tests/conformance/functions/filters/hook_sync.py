"""Contract 3.2: hooks may be sync."""


class Filter:
    def inlet(self, body: dict, **kwargs) -> dict:
        body["x_sync"] = kwargs
        return body
