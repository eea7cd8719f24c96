"""Contract 7.1: every reserved argument that a pipe may name."""
import json


class Pipe:
    async def pipe(
        self,
        body,
        __user__,
        __event_emitter__,
        __event_call__,
        __metadata__,
        __request__,
        __chat_id__,
        __message_id__,
        __session_id__,
        __files__,
        __tools__,
        __task__,
        __task_body__,
        __oauth_token__,
        __model__,
        __id__,
        __features__,
        __messages__,
    ):
        await __event_emitter__({"type": "status", "data": {"description": "here"}})
        return json.dumps(
            {
                "__user__": __user__,
                "__metadata__": __metadata__,
                "__request__": [type(__request__).__name__, __request__.method, __request__.url.path],
                "__chat_id__": __chat_id__,
                "__message_id__": __message_id__,
                "__session_id__": __session_id__,
                "__files__": __files__,
                "__tools__": sorted(__tools__),
                "__task__": __task__,
                "__task_body__": __task_body__,
                "__oauth_token__": __oauth_token__,
                "__model__": __model__,
                "__id__": __id__,
                "__features__": __features__,
                "__messages__": __messages__,
                "callable": [callable(__event_emitter__), callable(__event_call__)],
            }
        )
