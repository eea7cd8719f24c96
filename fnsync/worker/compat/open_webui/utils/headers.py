"""Of `open_webui.utils.headers`: who calls, for another server."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fnsync.worker.compat.open_webui import env


def include_user_info_headers(headers: dict[str, str], user: Any = None, **_: Any) -> dict[str, str]:
    """The headers and those that name a user."""
    if user is None:
        return headers
    named = {
        env.FORWARD_USER_INFO_HEADER_USER_NAME: quote(user.name.strip(), safe=" "),
        env.FORWARD_USER_INFO_HEADER_USER_ID: user.id,
        env.FORWARD_USER_INFO_HEADER_USER_EMAIL: user.email.strip(),
        env.FORWARD_USER_INFO_HEADER_USER_ROLE: user.role,
    }
    return {**headers, **named}
