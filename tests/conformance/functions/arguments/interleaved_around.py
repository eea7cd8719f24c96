"""Contract 7, 11: the same around a pipe: each hook waits for the other user's."""
import asyncio

from pydantic import BaseModel

WAITING = []


async def both():
    if WAITING:
        WAITING.pop().set()
    else:
        WAITING.append(asyncio.Event())
        await asyncio.wait_for(WAITING[0].wait(), 20)


def told(user, metadata, request):
    return [user["email"], user["valves"].word, metadata["chat_id"], metadata.get("mark"), request.headers["x-mine"]]


class Filter:
    class UserValves(BaseModel):
        word: str = "default"

    async def inlet(self, body, __user__, __metadata__, __request__):
        __metadata__["mark"] = __user__["email"]
        await both()
        body["seen"] = [told(__user__, __metadata__, __request__)]
        return body

    async def stream(self, event, __user__, __metadata__, __request__):
        if not __metadata__.get("met"):
            __metadata__["met"] = True
            await both()
        event["seen"] = told(__user__, __metadata__, __request__)
        return event

    async def outlet(self, body, __user__, __metadata__, __request__):
        await both()
        body["messages"][-1]["content"] += " " + " ".join(map(str, told(__user__, __metadata__, __request__)))
        return body
