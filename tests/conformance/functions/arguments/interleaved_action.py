"""Contract 7, 11: two users press one button at once."""
import asyncio

from pydantic import BaseModel

WAITING = []


async def both():
    if WAITING:
        WAITING.pop().set()
    else:
        WAITING.append(asyncio.Event())
        await asyncio.wait_for(WAITING[0].wait(), 20)


class Action:
    class UserValves(BaseModel):
        word: str = "default"

    async def action(self, body, __user__, __id__, __request__, __metadata__, __session_id__):
        seen = []
        for _ in range(3):
            await both()
            seen.append(
                [
                    __user__["email"],
                    __user__["valves"].word,
                    __id__,
                    __request__.headers["x-mine"],
                    __metadata__["chat_id"],
                    __session_id__,
                    body["messages"][-1]["content"],
                ]
            )
        return seen
