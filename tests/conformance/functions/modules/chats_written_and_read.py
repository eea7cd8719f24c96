"""Contract 9.1: `Chats`: what functions write of a chat they read back."""
import json

from open_webui.models.chats import Chats


class Pipe:
    async def pipe(self, body, __user__, __chat_id__):
        unknown = await Chats.get_chat_by_id("unknown")
        message = {"id": "m-1", "role": "assistant", "content": "kept", "parentId": None, "childrenIds": []}
        await Chats.upsert_message_to_chat_by_id_and_message_id(__chat_id__, "m-1", message)
        chat = Chats.get_chat_by_id_and_user_id(__chat_id__, __user__["id"])
        found = await Chats.get_message_by_id_and_message_id(__chat_id__, "m-1")
        return json.dumps([unknown, chat.id == __chat_id__, chat.user_id == __user__["id"], found["content"]])
