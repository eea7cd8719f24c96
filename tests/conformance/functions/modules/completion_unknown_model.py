"""Contract 9.1: an unknown model raises `Exception("Model not found")`."""
import json

from open_webui.models.users import Users
from open_webui.utils.chat import generate_chat_completion


class Pipe:
    async def pipe(self, body, __user__, __request__):
        user = await Users.get_user_by_id(__user__["id"])
        try:
            await generate_chat_completion(__request__, {"model": "nowhere", "messages": body["messages"]}, user)
        except Exception as exc:
            return json.dumps([type(exc).__name__, str(exc), str(getattr(exc, "detail", ""))])
