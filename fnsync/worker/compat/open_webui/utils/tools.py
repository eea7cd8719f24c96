"""Of `open_webui.utils.tools`: there are no workspace tools here, so each of these gives none."""

from __future__ import annotations

from typing import Any

Tools = dict[str, dict[str, Any]]


async def get_tools(request: Any, tool_ids: list[str], user: Any, extra_params: dict[str, Any]) -> Tools:
    """None; a tool that is asked for and is not there is left out, as in Open WebUI."""
    return {}


async def get_builtin_tools(request: Any, extra_params: dict[str, Any], *_: Any, **__: Any) -> Tools:
    """None: they are the chat server's."""
    return {}


async def get_terminal_tools(request: Any, terminal_id: str, user: Any, extra_params: dict[str, Any]) -> Tools:
    """None: terminals are the chat server's."""
    return {}
