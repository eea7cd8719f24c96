"""Contract 9.1: `generate_chat_completion` without a stream gives a completion dict."""
import json

from open_webui.models.users import Users
from open_webui.utils.chat import generate_chat_completion


class Pipe:
    async def pipe(self, body, __user__, __request__):
        user = Users.get_user_by_id(__user__["id"])
        form = {"model": "inner_model", "messages": body["messages"], "stream": False}
        by_place = await generate_chat_completion(__request__, form, user)
        by_name = await generate_chat_completion(request=__request__, form_data=form, user=user, bypass_filter=True)
        return json.dumps([made["choices"][0]["message"]["content"] for made in (by_place, by_name)])
