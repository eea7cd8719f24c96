"""Values for the reserved arguments of handlers, such as `__user__`; computed only for the names a handler has.

`__event_emitter__` and `__event_call__` are made in the worker, `__user__["valves"]` too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from fnsync.model import Handler, Kind, LiveFunction, User

if TYPE_CHECKING:
    from fnsync.chat.turns import Turn

#: Request headers that carry credentials; a function never sees them.
CREDENTIAL_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-openwebui-user-jwt"}
)


def context(names: Iterable[str], function: LiveFunction, turn: Turn) -> dict[str, Any]:
    """Return the values of the reserved arguments in `names`, as returned by `reserved`."""
    return {name: _VALUES[name](function, turn) for name in names}


def reserved(handler: Handler) -> tuple[str, ...]:
    """Return which of the handler's parameters are reserved arguments that the server fills."""
    names = tuple(name for name in handler.parameters if name in _VALUES)
    # The request has the metadata in its state, whether the handler names it or not.
    return (*names, "__metadata__") if "__request__" in names and "__metadata__" not in names else names


def user(caller: User) -> dict[str, Any]:
    """Return `__user__`; the worker adds `valves`."""
    return {"id": caller.id, "name": caller.name, "email": caller.email, "role": caller.role}


def _user(function: LiveFunction, turn: Turn) -> Any:
    """Of a pipeline, the user whom its client names, where it may; None: it names nobody."""
    is_named = function.kind is Kind.PIPELINE and turn.named is not UNSET
    return turn.named if is_named else user(turn.caller)


def metadata(turn: Turn) -> dict[str, Any]:
    """Return `__metadata__`: every key that Open WebUI gives an API call, so that look-ups never fail."""
    value = turn.request.value
    params, task = value("params"), tasks(turn)
    features = value("features") or {}
    http = turn.http()
    return {
        "user_id": turn.caller.id,
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
        "model": turn.model(),
        "model_id": turn.request.model,
        "direct": False,
        "params": params if isinstance(params, dict) else {},
        "include_file_context": True,
        "tool_approval_resume": None,
        "base_system_prompt": None,
        "base_user_prompt": None,
        "sources": [],
        **task,
    }


def tasks(turn: Turn) -> dict[str, Any]:
    """`task` and `task_body` of the metadata that a chat service sent: the request is for a title, tags or the like
    (function-contract §2.6)."""
    sent = turn.request.value("metadata")
    if not isinstance(sent, dict) or not isinstance(sent.get("task"), str):
        return {}
    return {"task": sent["task"], "task_body": sent.get("task_body")}


def _messages(function: LiveFunction, turn: Turn) -> Any:
    return msgspec.json.decode(turn.request.body).get("messages")


_VALUES: Mapping[str, Callable[[LiveFunction, Turn], Any]] = {
    "__user__": lambda function, turn: _user(function, turn),
    "__metadata__": lambda function, turn: turn.metadata,
    "__request__": lambda function, turn: turn.http(),
    "__model__": lambda function, turn: turn.model(),
    "__id__": lambda function, turn: turn.called_as or function.id,
    "__messages__": _messages,
    "__chat_id__": lambda function, turn: turn.request.value("chat_id") or "",
    "__session_id__": lambda function, turn: turn.request.value("session_id"),
    "__message_id__": lambda function, turn: turn.request.value("id"),
    "__files__": lambda function, turn: turn.request.value("files") or [],
    "__features__": lambda function, turn: turn.request.value("features") or {},
    "__tools__": lambda function, turn: turn.request.value("tool_servers") or [],
    "__task__": lambda function, turn: tasks(turn).get("task"),
    "__task_body__": lambda function, turn: tasks(turn).get("task_body"),
    "__oauth_token__": lambda function, turn: None,
}
