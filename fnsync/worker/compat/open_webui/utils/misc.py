"""Of `open_webui.utils.misc`: helpers around lists of messages, and a few others that functions use."""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from fnsync.worker.compat.outputs import convert_output_to_messages, get_output_text

__all__ = [
    "add_or_update_system_message",
    "add_or_update_user_message",
    "append_or_update_assistant_message",
    "calculate_sha256",
    "calculate_sha256_string",
    "convert_output_to_messages",
    "deep_update",
    "extract_urls",
    "get_allow_block_lists",
    "get_content_from_message",
    "get_last_assistant_message",
    "get_last_assistant_message_item",
    "get_last_user_message",
    "get_last_user_message_item",
    "get_message_list",
    "get_messages_content",
    "get_output_text",
    "get_system_message",
    "is_string_allowed",
    "merge_system_messages",
    "openai_chat_chunk_message_template",
    "openai_chat_completion_message_template",
    "openai_chat_message_template",
    "parse_duration",
    "pop_system_message",
    "prepend_to_first_user_message_content",
    "remove_system_message",
    "replace_system_message_content",
    "sanitize_filename",
    "set_last_user_message_content",
    "update_message_content",
    "validate_email_format",
]

Message = dict[str, Any]
Messages = list[Message]


def deep_update(d: Any, u: Mapping[str, Any]) -> Any:
    """Put the values of `u` into `d`, those of mappings inside it too; return `d`."""
    for key, value in u.items():
        d[key] = deep_update(d.get(key, {}), value) if isinstance(value, Mapping) else value
    return d


# ---- finding messages ----------------------------------------------------------------------------------------------


def get_content_from_message(message: Message) -> str | None:
    """The text of a message; of a list of parts, that of the first text."""
    content = message.get("content")
    if isinstance(content, list):
        return next((part["text"] for part in content if part.get("type") == "text"), None)
    return content


def _last(messages: Messages, role: str) -> Message | None:
    return next((message for message in reversed(messages) if message["role"] == role), None)


def get_last_user_message_item(messages: Messages) -> Message | None:
    return _last(messages, "user")


def get_last_user_message(messages: Messages) -> str | None:
    found = _last(messages, "user")
    return None if found is None else get_content_from_message(found)


def get_last_assistant_message_item(messages: Messages) -> Message | None:
    return _last(messages, "assistant")


def get_last_assistant_message(messages: Messages) -> str | None:
    found = _last(messages, "assistant")
    return None if found is None else get_content_from_message(found)


def get_system_message(messages: Messages) -> Message | None:
    return next((message for message in messages if message["role"] == "system"), None)


def remove_system_message(messages: Messages) -> Messages:
    return [message for message in messages if message["role"] != "system"]


def pop_system_message(messages: Messages) -> tuple[Message | None, Messages]:
    return get_system_message(messages), remove_system_message(messages)


def get_messages_content(messages: Messages) -> str:
    """All messages as text, each with its role in front."""
    return "\n".join(f"{message['role'].upper()}: {get_content_from_message(message)}" for message in messages)


def get_message_list(messages_map: Mapping[str, Message] | None, message_id: str | None) -> Messages:
    """The messages of a chat's history from the first down to one, along `parentId`."""
    found: Messages = []
    seen: set[str] = set()
    while messages_map and message_id and message_id not in seen and (message := messages_map.get(message_id)):
        seen.add(message_id)
        found.append(message)
        message_id = message.get("parentId")
    return found[::-1]


# ---- changing messages ---------------------------------------------------------------------------------------------


def update_message_content(message: Message, content: str, append: bool = True) -> Message:
    """Put text behind that of a message, or in front of it; each of its text parts gets it."""

    def joined(old: str) -> str:
        return f"{old}\n{content}" if append else f"{content}\n{old}"

    if isinstance(message["content"], list):
        for part in message["content"]:
            if part.get("type") == "text":
                part["text"] = joined(part["text"])
    else:
        message["content"] = joined(message["content"])
    return message


def add_or_update_system_message(content: str, messages: Messages, append: bool = False) -> Messages:
    """Put text to the system message in front, or make one."""
    if messages and messages[0].get("role") == "system":
        messages[0] = update_message_content(messages[0], content, append)
    else:
        messages.insert(0, {"role": "system", "content": content})
    return messages


def replace_system_message_content(content: str, messages: Messages) -> Messages:
    """Give the system message another text, if there is one."""
    if (found := get_system_message(messages)) is not None:
        found["content"] = content
    return messages


def merge_system_messages(messages: Messages) -> Messages:
    """All system messages as one, in front."""
    texts = [get_content_from_message(message) or "" for message in messages if message["role"] == "system"]
    rest = remove_system_message(messages)
    return [{"role": "system", "content": "\n".join(texts)}, *rest] if texts else rest


def _add_or_update_last(role: str, content: str, messages: Messages, append: bool) -> Messages:
    if messages and messages[-1].get("role") == role:
        messages[-1] = update_message_content(messages[-1], content, append)
    else:
        messages.append({"role": role, "content": content})
    return messages


def add_or_update_user_message(content: str, messages: Messages, append: bool = True) -> Messages:
    """Put text to the last message if it is the user's, or make one."""
    return _add_or_update_last("user", content, messages, append)


def append_or_update_assistant_message(content: str, messages: Messages) -> Messages:
    """Put text behind the last message if it is the assistant's, or make one."""
    return _add_or_update_last("assistant", content, messages, True)


def prepend_to_first_user_message_content(content: str, messages: Messages) -> Messages:
    """Put text in front of that of the first message of the user."""
    for message in messages:
        if message["role"] == "user":
            update_message_content(message, content, append=False)
            break
    return messages


def set_last_user_message_content(content: str, messages: Messages) -> Messages:
    """Give the user's last message another text; of a list of parts, the first text."""
    found = _last(messages, "user")
    if found is not None and isinstance(found.get("content"), list):
        part = next((part for part in found["content"] if part.get("type") == "text"), None)
        if part is not None:
            part["text"] = content
    elif found is not None:
        found["content"] = content
    return messages


# ---- OpenAI's objects ----------------------------------------------------------------------------------------------


def openai_chat_message_template(model: str, message_id: str | None = None) -> dict[str, Any]:
    """What completions and chunks have in common."""
    return {
        "id": message_id or f"{model}-{uuid.uuid4()}",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "logprobs": None, "finish_reason": None}],
    }


def openai_chat_chunk_message_template(
    model: str,
    content: str | None = None,
    reasoning_content: str | None = None,
    tool_calls: list[Any] | None = None,
    usage: dict[str, Any] | None = None,
    message_id: str | None = None,
) -> dict[str, Any]:
    """A chunk; one with nothing in it is the last."""
    chunk = {**openai_chat_message_template(model, message_id), "object": "chat.completion.chunk"}
    parts = {"content": content, "reasoning_content": reasoning_content, "tool_calls": tool_calls}
    delta = {key: value for key, value in parts.items() if value}
    chunk["choices"][0]["delta"] = delta
    if not delta:
        chunk["choices"][0]["finish_reason"] = "stop"
    if usage:
        chunk["usage"] = usage
    return chunk


def openai_chat_completion_message_template(
    model: str,
    message: str | None = None,
    reasoning_content: str | None = None,
    tool_calls: list[Any] | None = None,
    usage: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A completion."""
    completion = {**openai_chat_message_template(model), "object": "chat.completion"}
    choice = completion["choices"][0]
    if message is not None:
        more = {"reasoning_content": reasoning_content, "tool_calls": tool_calls}
        said = {"role": "assistant", "content": message}
        choice["message"] = said | {key: value for key, value in more.items() if value}
    choice["finish_reason"] = "tool_calls" if tool_calls else "stop"
    if usage:
        completion["usage"] = usage
    return completion


# ---- texts ---------------------------------------------------------------------------------------------------------


def get_allow_block_lists(filter_list: Iterable[str] | None) -> tuple[list[str], list[str]]:
    """The entries that allow, and those that block: they begin with `!`."""
    entries = [entry.strip() for entry in filter_list or () if entry]
    allowed = [entry for entry in entries if entry and not entry.startswith("!")]
    blocked = [entry[1:].strip() for entry in entries if entry.startswith("!")]
    return allowed, [entry for entry in blocked if entry]


def is_string_allowed(string: str | Sequence[str], filter_list: list[str] | None = None) -> bool:
    """Whether a text, or one of several, ends with an entry that allows (if there are any), and none with one that
    blocks."""
    texts = [string] if isinstance(string, str) else list(string)
    allowed, blocked = get_allow_block_lists(filter_list)
    if allowed and not any(text.endswith(entry) for text in texts for entry in allowed):
        return False
    return not any(text.endswith(entry) for text in texts for entry in blocked)


def calculate_sha256(file_path: str, chunk_size: int = 64 * 1024) -> str:
    """The hash of a file's content."""
    digest = hashlib.sha256()
    with open(file_path, "rb") as file:
        while chunk := file.read(chunk_size):
            digest.update(chunk)
    return digest.hexdigest()


def calculate_sha256_string(string: str) -> str:
    """The hash of a text."""
    return hashlib.sha256(string.encode()).hexdigest()


def sanitize_filename(file_name: str) -> str:
    """A name in lower case, of letters, digits and hyphens."""
    kept = re.sub(r"[^\w\s]", "", file_name.lower())
    return re.sub(r"\s+", "-", kept)


def validate_email_format(email: str) -> bool:
    return email.endswith("@localhost") or re.fullmatch(r"[^@]+@[^@]+\.[^@]+", email) is not None


_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def parse_duration(duration: str) -> timedelta | None:
    """The time that `1h30m` stands for; None for `-1` and `0`, which mean: none. Raises ValueError."""
    if duration in ("-1", "0"):
        return None
    found = re.findall(r"(-?\d+(?:\.\d+)?)(ms|[smhdw])", duration)
    if not found:
        raise ValueError("Invalid duration string")
    return sum((float(count) * _UNITS[unit] for count, unit in found), timedelta())


def extract_urls(text: str) -> list[str]:
    """The addresses in a text."""
    return re.findall(r"https?://[^\s<>\"']+", text)
