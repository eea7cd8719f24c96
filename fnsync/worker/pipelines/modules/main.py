"""`utils.pipelines.main` of a Pipelines server: helpers for messages, chunks and tools."""

from __future__ import annotations

import inspect
import re
import time
import types
import uuid
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Message = dict[str, Any]

#: Python's types by the names that JSON schemas have for them.
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
_PARAMETER = re.compile(r":param[ \t]+(\w+):[ \t]*(.*)")


# ---- messages --------------------------------------------------------------------------------------------


def get_last_user_message(messages: list[Message]) -> str | None:
    """The text of the last message by the user: of a list of parts the first text. None: there is none."""
    return _last_text(messages, "user")


def get_last_assistant_message(messages: list[Message]) -> str | None:
    """The text of the last answer; None: there is none."""
    return _last_text(messages, "assistant")


def get_system_message(messages: list[Message]) -> Message | None:
    """The first system message, whole; None: there is none."""
    return next((message for message in messages if message.get("role") == "system"), None)


def remove_system_message(messages: list[Message]) -> list[Message]:
    """The messages without system messages."""
    return [message for message in messages if message.get("role") != "system"]


def pop_system_message(messages: list[Message]) -> tuple[Message | None, list[Message]]:
    """The first system message, and the messages without any."""
    return get_system_message(messages), remove_system_message(messages)


def add_or_update_system_message(content: str, messages: list[Message]) -> list[Message]:
    """Put a text in front of the system message, which is made if the list does not begin with one.

    Changes the list, and returns it.
    """
    if messages and messages[0].get("role") == "system":
        messages[0]["content"] = f"{content}\n{messages[0]['content']}"
    else:
        messages.insert(0, {"role": "system", "content": content})
    return messages


def _last_text(messages: list[Message], role: str) -> str | None:
    said = (message.get("content") for message in reversed(messages) if message.get("role") == role)
    content = next(said, None)
    if isinstance(content, list):
        parts = (part for part in content if isinstance(part, Mapping) and part.get("type") == "text")
        content = next((part.get("text") for part in parts), None)
    return content


# ---- chunks ----------------------------------------------------------------------------------------------


def stream_message_template(model: str, message: str) -> dict[str, Any]:
    """A chunk of a stream that holds a text."""
    choice = {"index": 0, "delta": {"content": message}, "logprobs": None, "finish_reason": None}
    return {
        "id": f"{model}-{uuid.uuid4()}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
    }


# ---- tools -----------------------------------------------------------------------------------------------


def get_tools_specs(tools: object) -> list[dict[str, Any]]:
    """What a model has to know of the methods of an object, to choose one: name, description, parameters."""
    methods = ((name, getattr(tools, name)) for name in dir(tools) if not name.startswith("__"))
    return [_spec(name, method) for name, method in methods if callable(method)]


def _spec(name: str, method: Any) -> dict[str, Any]:
    text = inspect.getdoc(method) or name
    told = dict(_PARAMETER.findall(text))
    hints = _hints(method)
    named = [item for item in inspect.signature(method).parameters.values() if item.kind not in (2, 4)]
    parameters = [item for item in named if not item.name.startswith("__")]
    return {
        "name": name,
        "description": text.partition(":param")[0].strip() or name,
        "parameters": {
            "type": "object",
            "properties": {
                item.name: {**_type(hints.get(item.name)), "description": told.get(item.name, item.name)}
                for item in parameters
            },
            "required": [item.name for item in parameters if item.default is item.empty],
        },
    }


def _hints(method: Any) -> dict[str, Any]:
    """The annotations of a method; none where their names cannot be found."""
    try:
        return get_type_hints(method)
    except (NameError, TypeError):
        return {}


def _type(annotation: Any) -> dict[str, Any]:
    if get_origin(annotation) is Literal:
        values = list(get_args(annotation))
        return {"type": _JSON_TYPES.get(type(values[0]), "string"), "enum": values}
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [item for item in get_args(annotation) if item is not type(None)]
        annotation = inner[0] if inner else str
    return {"type": _JSON_TYPES.get(get_origin(annotation) or annotation, "string")}
