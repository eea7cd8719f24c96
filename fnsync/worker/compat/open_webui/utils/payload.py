"""Of `open_webui.utils.payload`: a request of OpenAI's as one of Ollama's."""

from __future__ import annotations

from typing import Any

import msgspec


def convert_messages_openai_to_ollama(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with text and images apart, and with tool calls whose arguments are objects."""
    return [_message(message) for message in messages]


def _message(message: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message["role"]}
    content = message.get("content")
    if isinstance(content, list):
        made["content"] = "".join(part.get("text", "") for part in content if part.get("type") == "text")
        images = [_image(part["image_url"]["url"]) for part in content if part.get("type") == "image_url"]
        if images:
            made["images"] = images
    else:
        made["content"] = content or ""
    if calls := message.get("tool_calls"):
        made["tool_calls"] = [_call(call) for call in calls]
    if call_id := message.get("tool_call_id"):
        made["tool_call_id"] = call_id
    return made


def _image(url: str) -> str:
    return url.partition(",")[2] if url.startswith("data:") else url


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    arguments = _decoded(function.get("arguments") or "{}")
    return {
        "index": call.get("index", 0),
        "id": call.get("id"),
        "function": {"name": function.get("name"), "arguments": arguments},
    }


def _decoded(text: Any) -> Any:
    try:
        return msgspec.json.decode(text) if isinstance(text, str) else text
    except msgspec.DecodeError:
        return text


def convert_payload_openai_to_ollama(openai_payload: dict[str, Any]) -> dict[str, Any]:
    """The request; what it is given stays as it was."""
    made: dict[str, Any] = {
        "model": openai_payload.get("model"),
        "messages": convert_messages_openai_to_ollama(openai_payload.get("messages") or []),
        "stream": openai_payload.get("stream", False),
    }
    for key in ("tools", "metadata"):
        if key in openai_payload:
            made[key] = openai_payload[key]
    options = dict(openai_payload.get("options") or {})
    for key in ("format", "keep_alive"):
        if options.get(key) is not None:
            made[key] = _decoded(options.pop(key))
    for key in ("think", "system"):
        if options.get(key) is not None:
            made[key] = options.pop(key)
    if "max_tokens" in options:
        options["num_predict"] = options.pop("max_tokens")
    if "stop" in openai_payload:
        options["stop"] = openai_payload["stop"]
    if "max_tokens" in openai_payload:
        options["num_predict"] = openai_payload["max_tokens"]
    if options:
        made["options"] = options
    wanted = openai_payload.get("response_format") or {}
    schema = wanted.get(wanted.get("type"))
    if isinstance(schema, dict):
        made["format"] = schema.get("schema")
    return made
