"""The model that the pipes below ask."""


class Pipe:
    async def pipe(self, body, __user__, __metadata__):
        said = body["messages"][-1]["content"]
        if said == "raise":
            raise ValueError("inner failure")
        for word in (said, " of ", __user__["email"], " in ", __metadata__["chat_id"] or "no chat"):
            yield word
