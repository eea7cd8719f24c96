"""`__tools__`: the tools that a chat service's client brings along. They run where the client is, so calling one is a
question to it (`execute:tool`, as Open WebUI's own client answers it)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from fnsync.worker.arguments import Ask


def client_tools(servers: Any, ask: Ask) -> dict[str, dict[str, Any]]:
    """Name -> tool, of the tool servers that a request named: each with `specs`, a list of functions' schemas.

    What is no such server is left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for server in servers if isinstance(servers, list) else ():
        if not isinstance(server, dict) or not isinstance(specs := server.get("specs"), list):
            continue
        place = {key: value for key, value in server.items() if key != "specs"}
        for spec in specs:
            if isinstance(spec, dict) and isinstance(name := spec.get("name"), str):
                found[name] = {
                    "tool_id": f"direct_server:{server.get('id') or server.get('url') or ''}",
                    "callable": _caller(name, place, ask),
                    "spec": spec,
                    "type": "external",
                    "direct": True,
                    "server": place,
                }
    return found


def _caller(name: str, server: dict[str, Any], ask: Ask) -> Callable[..., Awaitable[Any]]:
    async def call(**params: Any) -> Any:
        """Have the client run the tool; returns its result, an object with `error` where nobody could."""
        data = {"id": str(uuid.uuid4()), "name": name, "params": params, "server": server, "session_id": None}
        return await ask({"type": "execute:tool", "data": data})

    call.__name__ = name
    return call
