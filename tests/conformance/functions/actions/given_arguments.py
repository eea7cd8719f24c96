"""Contract 4: the arguments of an action."""
from pydantic import BaseModel


class Action:
    class UserValves(BaseModel):
        word: str = "default"

    async def action(
        self,
        body,
        __user__,
        __event_emitter__,
        __event_call__,
        __model__,
        __request__,
        __id__,
        __metadata__=None,
        __chat_id__=None,
        __files__=None,
    ):
        return {
            "user": [__user__["email"], __user__["valves"].word],
            "talk": [callable(__event_emitter__), callable(__event_call__)],
            "model": __model__["id"],
            "request": [type(__request__).__name__, __request__.url.path],
            "id": __id__,
            "metadata": __metadata__ is not None and __metadata__["chat_id"],
            "chat_id": __chat_id__,
            "files": __files__,
        }
