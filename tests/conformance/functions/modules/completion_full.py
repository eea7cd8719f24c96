"""Contract 9.1: `main.generate_chat_completions` is the whole pipeline, filters included."""
from open_webui.main import generate_chat_completions
from open_webui.models.users import Users


class Pipe:
    async def pipe(self, body, __user__, __request__):
        user = await Users.get_user_by_id(__user__["id"])
        form = {"model": "inner_model", "messages": body["messages"], "stream": False}
        return (await generate_chat_completions(__request__, form, user))["choices"][0]["message"]["content"]
