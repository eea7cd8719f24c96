"""Contract 7.1, 8.1: the emitter is None in stream and outlet on the API path."""


class Filter:
    async def inlet(self, body, __event_emitter__):
        await __event_emitter__({"type": "status", "data": {"description": "inlet"}})
        return body

    async def request(self, body, __event_emitter__):
        await __event_emitter__({"type": "status", "data": {"description": "request"}})
        return body

    async def stream(self, event, __event_emitter__):
        if event["choices"][0]["finish_reason"]:
            await __event_emitter__({"type": "status", "data": {"description": "stream"}})
        return event

    async def outlet(self, body, __event_emitter__):
        await __event_emitter__({"type": "status", "data": {"description": "outlet"}})
        return body
