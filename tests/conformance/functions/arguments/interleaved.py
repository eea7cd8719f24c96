"""Contract 7, 11: two users' calls at once; each waits until the other one is in the middle of its own."""
import asyncio
import json

from pydantic import BaseModel

WAITING = []


async def both():
    """Return when another call has come as far."""
    if WAITING:
        WAITING.pop().set()
    else:
        WAITING.append(asyncio.Event())
        await asyncio.wait_for(WAITING[0].wait(), 20)


class Pipe:
    class UserValves(BaseModel):
        word: str = "default"

    async def pipe(self, body, __user__, __metadata__, __chat_id__, __request__, __messages__, __files__):
        seen = []
        for _ in range(3):
            await both()
            seen.append(
                [
                    __user__["email"],
                    __user__["valves"].word,
                    __metadata__["chat_id"],
                    __metadata__["user_id"] == __user__["id"],
                    __chat_id__,
                    __request__.headers["x-mine"],
                    __messages__[-1]["content"],
                    __files__,
                    body["messages"][-1]["content"],
                ]
            )
        return json.dumps(seen)
