"""Contract 2.3, 9.1: a pipe may hand the answer of another model on as it is."""
from open_webui.models.users import Users
from open_webui.utils.chat import generate_chat_completion


class Pipe:
    async def pipe(self, body, __user__, __request__):
        user = await Users.get_user_by_id(__user__["id"])
        return await generate_chat_completion(__request__, {**body, "model": "inner_model"}, user)
