"""Contract 3.2: hooks may be async."""


class Filter:
    async def inlet(self, body):
        body["x_async"] = True
        return body
