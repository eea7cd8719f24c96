"""Contract 7.1: every reserved argument, in each hook of a filter."""
import json


def told(user, emitter, call, metadata, request, model, chat, message, session, files, tools, task, token, id, features):
    return {
        "user": user["email"],
        "talk": [callable(emitter), callable(call)],
        "chat": [metadata["chat_id"], metadata["session_id"], metadata["message_id"]],
        "request": [type(request).__name__, request.url.path],
        "model": model["id"],
        "ids": [chat, message, session],
        "files": files,
        "tools": sorted(tools),
        "task": task,
        "token": token,
        "id": id,
        "features": features,
    }


class Filter:
    def inlet(
        self, body, __user__, __event_emitter__, __event_call__, __metadata__, __request__, __model__, __chat_id__,
        __message_id__, __session_id__, __files__, __tools__, __task__, __oauth_token__, __id__, __features__,
    ):
        body["told"] = {
            "inlet": told(
                __user__, __event_emitter__, __event_call__, __metadata__, __request__, __model__, __chat_id__,
                __message_id__, __session_id__, __files__, __tools__, __task__, __oauth_token__, __id__, __features__,
            )
        }
        return body

    async def request(
        self, body, __user__, __event_emitter__, __event_call__, __metadata__, __request__, __model__, __chat_id__,
        __message_id__, __session_id__, __files__, __tools__, __task__, __oauth_token__, __id__, __features__,
    ):
        body["told"]["request"] = told(
            __user__, __event_emitter__, __event_call__, __metadata__, __request__, __model__, __chat_id__,
            __message_id__, __session_id__, __files__, __tools__, __task__, __oauth_token__, __id__, __features__,
        )
        return body

    def stream(
        self, event, __user__, __event_emitter__, __event_call__, __metadata__, __request__, __model__, __chat_id__,
        __message_id__, __session_id__, __files__, __tools__, __task__, __oauth_token__, __id__, __features__,
    ):
        event["told"] = told(
            __user__, __event_emitter__, __event_call__, __metadata__, __request__, __model__, __chat_id__,
            __message_id__, __session_id__, __files__, __tools__, __task__, __oauth_token__, __id__, __features__,
        )
        return event

    async def outlet(
        self, body, __user__, __event_emitter__, __event_call__, __metadata__, __request__, __model__, __chat_id__,
        __message_id__, __session_id__, __files__, __tools__, __task__, __oauth_token__, __id__, __features__,
    ):
        seen = json.loads(body["messages"][-1]["content"])
        seen["outlet"] = told(
            __user__, __event_emitter__, __event_call__, __metadata__, __request__, __model__, __chat_id__,
            __message_id__, __session_id__, __files__, __tools__, __task__, __oauth_token__, __id__, __features__,
        )
        body["messages"][-1]["content"] = json.dumps(seen)
        return body
