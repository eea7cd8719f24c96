"""Values for the reserved arguments of handlers, such as `__user__`; computed only for the names a handler has.

`__event_emitter__` and `__event_call__` are made in the worker, `__user__["valves"]` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from fnsync.chat.requests import ChatRequest
from fnsync.model import LiveFunction, User

#: Request headers that carry credentials; a function never sees them.
CREDENTIAL_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-openwebui-user-jwt"}
)


@dataclass(slots=True)
class Call:
    """What reserved arguments are made from."""

    function: LiveFunction
    caller: User
    request: ChatRequest
    #: The model's entry in the list.
    model: Callable[[], Mapping[str, Any]]
    #: method, path, query, headers, client, base_url of the HTTP request.
    http: Callable[[], Mapping[str, Any]]


def context(names: tuple[str, ...], call: Call) -> dict[str, Any]:
    """Return the values of the reserved arguments in `names`, as returned by `reserved`."""
    return {name: _VALUES[name](call) for name in names}


def reserved(function: LiveFunction, handler: str) -> tuple[str, ...]:
    """Return which of the handler's parameters are reserved arguments that the server fills."""
    found = function.manifest.handler(handler)
    return tuple(name for name in found.parameters if name in _VALUES) if found else ()


def user(caller: User) -> dict[str, Any]:
    """Return `__user__`; the worker adds `valves`."""
    return {"id": caller.id, "name": caller.name, "email": caller.email, "role": caller.role}


def metadata(call: Call) -> dict[str, Any]:
    """Return `__metadata__`: every key that Open WebUI gives an API call, so that look-ups never fail."""
    value = call.request.value
    params = value("params")
    features = value("features") or {}
    http = call.http()
    return {
        "user_id": call.caller.id,
        "user_agent": http["headers"].get("user-agent"),
        "internal": False,
        "chat_id": value("chat_id") or "",
        "message_id": value("id"),
        "session_id": value("session_id"),
        "user_message": None,
        "user_message_id": value("parent_id"),
        "assistant_message_id": value("id"),
        "regeneration_message_id": None,
        "automation_id": None,
        "folder_id": value("folder_id"),
        "filter_ids": value("filter_ids") or [],
        "tool_ids": value("tool_ids"),
        "tool_servers": value("tool_servers"),
        "skill_ids": value("skill_ids"),
        "terminal_id": value("terminal_id"),
        "files": value("files"),
        "features": features,
        "variables": value("variables") or {},
        "chat_variables": {},
        "chat_context": None,
        "model": call.model(),
        "model_id": call.request.model,
        "direct": False,
        "params": params if isinstance(params, dict) else {},
        "include_file_context": True,
        "tool_approval_resume": None,
        "base_system_prompt": None,
        "base_user_prompt": None,
        "sources": [],
    }


def _messages(call: Call) -> Any:
    return msgspec.json.decode(call.request.body).get("messages")


_VALUES: Mapping[str, Callable[[Call], Any]] = {
    "__user__": lambda call: user(call.caller),
    "__metadata__": metadata,
    "__request__": lambda call: call.http(),
    "__model__": lambda call: call.model(),
    "__id__": lambda call: call.function.id,
    "__messages__": _messages,
    "__chat_id__": lambda call: call.request.value("chat_id") or "",
    "__session_id__": lambda call: call.request.value("session_id"),
    "__message_id__": lambda call: call.request.value("id"),
    "__files__": lambda call: call.request.value("files") or [],
    "__features__": lambda call: call.request.value("features") or {},
    "__tools__": lambda call: {},
    "__task__": lambda call: None,
    "__task_body__": lambda call: None,
    "__oauth_token__": lambda call: None,
}
