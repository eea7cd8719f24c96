"""Contract 9.1: pure functions of `utils.misc`."""
import json

from open_webui.utils.misc import (
    deep_update,
    get_last_user_message,
    get_last_user_message_item,
    get_message_list,
    is_string_allowed,
    pop_system_message,
)


class Pipe:
    def pipe(self, body):
        messages = [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "of a list"}]},
            {"role": "assistant", "content": "a"},
        ]
        system, rest = pop_system_message(messages)
        tree = {
            "a": {"id": "a", "parentId": None, "content": "first"},
            "b": {"id": "b", "parentId": "a", "content": "second"},
        }
        return json.dumps(
            [
                get_last_user_message(messages),
                get_last_user_message_item(messages)["role"],
                system["content"],
                len(rest),
                deep_update({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}),
                [message["content"] for message in get_message_list(tree, "b")],
                [is_string_allowed("www.example.org", ["example.org"]), is_string_allowed("x.bad.org", ["!bad.org"])],
            ]
        )
