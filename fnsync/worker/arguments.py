"""The arguments of a handler, injected by name (function-contract §7)."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

Emit = Callable[[Any], Awaitable[None]]
Ask = Callable[[Any], Awaitable[Any]]


#: What a reserved argument is when the server has nothing to say of it.
ABSENT: Mapping[str, Any] = {
    "__chat_id__": None,
    "__features__": None,
    "__files__": [],
    "__id__": None,
    "__message_id__": None,
    "__messages__": [],
    "__metadata__": {},
    "__model__": None,
    "__oauth_token__": None,
    "__request__": None,
    "__session_id__": None,
    "__task__": None,
    "__task_body__": None,
    "__tools__": [],
    "__user__": {},
}

#: The keys of `__user__` that this server knows nothing of, as they are where nobody has set them (§7.3).
UNKNOWN_OF_USER: Mapping[str, Any] = {
    "username": None,
    "profile_image_url": "/user.png",
    "profile_banner_image_url": None,
    "bio": None,
    "gender": None,
    "date_of_birth": None,
    "timezone": None,
    "presence_state": None,
    "status_emoji": None,
    "status_message": None,
    "status_expires_at": None,
    "info": None,
    "settings": None,
    "oauth": None,
    "scim": None,
    "last_active_at": 0,
    "updated_at": 0,
    "created_at": 0,
}


class Signature:
    """What a handler wants to be given; found once per worker."""

    def __init__(self, handler: Any) -> None:
        try:
            parameters = inspect.signature(handler).parameters.values()
        except (TypeError, ValueError):
            parameters = {}.values()  # a callable of C
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = [p.name for p in parameters if p.kind in named]
        #: Reserved arguments among its parameters; `**kwargs` gets nothing, as in the peer.
        self.reserved = tuple(name for name in names if name in ABSENT)
        self.names = frozenset(names)
        self.open = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
        self.emitter = "__event_emitter__" in names
        self.event_call = "__event_call__" in names
        #: Whether it wants nothing but its first argument.
        self.is_plain = not (self.reserved or self.emitter or self.event_call)


def user_of(sent: Mapping[str, Any] | None) -> dict[str, Any]:
    """`__user__` without its valves; nothing where there is no user."""
    return {**sent, **UNKNOWN_OF_USER} if sent else {}


def make_request(description: Mapping[str, Any], metadata: Any = None) -> Any:
    """A Starlette request over the caller's method, URL and headers; its body was read already. `metadata`: what the
    handler gets as `__metadata__`."""
    from starlette.requests import Request  # start time: only few functions ask for it

    from fnsync.worker.application import Application

    base = str(description.get("base_url") or "http://127.0.0.1/")
    scheme, _, rest = base.partition("://")
    host, _, port = rest.rstrip("/").partition(":")
    client = description.get("client")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": description.get("method", "POST"),
        "scheme": scheme,
        "path": description.get("path", "/"),
        "raw_path": str(description.get("path", "/")).encode(),
        "query_string": str(description.get("query", "")).encode(),
        "root_path": "",
        "headers": [(str(k).lower().encode("latin-1"), str(v).encode("latin-1")) for k, v in _pairs(description)],
        "client": tuple(client) if client else None,
        "server": (host, int(port) if port.isdigit() else (443 if scheme == "https" else 80)),
        "app": Application(),
        "state": {"user": None, "token": None, "metadata": metadata or {}, "model_id": None, "bypass_filter": False},
    }
    return Request(scope)


def _pairs(description: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    headers = description.get("headers") or []
    return list(headers.items()) if isinstance(headers, dict) else [(key, value) for key, value in headers]


def reserved_values(names: tuple[str, ...], context: bytes) -> dict[str, Any]:
    """Values for the reserved arguments in `names`: what the server sent, else what stands for nothing."""
    if not names:
        return {}
    sent: dict[str, Any] = msgspec.json.decode(context) if context else {}
    return {name: sent[name] if name in sent else copy.copy(ABSENT[name]) for name in names}
