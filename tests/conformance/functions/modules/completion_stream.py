"""Contract 9.1: with a stream it gives a StreamingResponse whose `body_iterator` yields `data:` lines."""
import json

from open_webui.models.users import Users
from open_webui.utils.chat import generate_chat_completion


class Pipe:
    async def pipe(self, body, __user__, __request__):
        user = await Users.get_user_by_id(__user__["id"])
        form = {"model": "inner_model", "messages": body["messages"], "stream": True}
        response = await generate_chat_completion(__request__, form, user)
        text, kinds = "", set()
        async for part in response.body_iterator:
            part = part.decode() if isinstance(part, bytes) else part
            for line in part.splitlines():
                if line:
                    kinds.add(line[:5])
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        return json.dumps([type(response).__name__, sorted(kinds), text])
