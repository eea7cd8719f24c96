"""Contract 3.6: which events a stream filter sees."""


class Filter:
    async def stream(self, event: dict) -> dict:
        event["seen"] = sorted(key for key in event)
        return event
