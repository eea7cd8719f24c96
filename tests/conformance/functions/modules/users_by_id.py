"""Contract 9.1: `Users.get_user_by_id`, in the four styles of authors."""
import asyncio
import inspect
import json

from open_webui.models.users import UserModel, Users


async def either(value):
    return await value if inspect.isawaitable(value) else value


class Pipe:
    async def pipe(self, body, __user__):
        id = __user__["id"]
        found = [
            await Users.get_user_by_id(id),
            Users.get_user_by_id(id),
            await either(Users.get_user_by_id(id)),
            await asyncio.to_thread(Users.get_user_by_id, id),
        ]
        nobody = [await Users.get_user_by_id("nobody"), Users.get_user_by_id("nobody")]
        return json.dumps([[[user.id == id, user.email, user.name, user.role] for user in found], nobody])
