"""Of `open_webui.env`: the version whose behaviour this is, levels of loggers, and how long HTTP calls may take."""

from __future__ import annotations

import logging
from typing import Any


class _Levels(dict[str, Any]):
    """Level by subject. Empty, as in Open WebUI; a subject that is asked for has the general level."""

    def __missing__(self, key: str) -> int:
        return logging.INFO


VERSION = "0.12.4"
GLOBAL_LOG_LEVEL = "INFO"
SRC_LOG_LEVELS = _Levels()
WEBUI_NAME = "fnsync"
ENV = "prod"
#: Seconds; None: no limit but the function's own.
AIOHTTP_CLIENT_TIMEOUT: int | None = None
AIOHTTP_CLIENT_SESSION_SSL = True
ENABLE_FORWARD_USER_INFO_HEADERS = False
FORWARD_USER_INFO_HEADER_USER_NAME = "X-OpenWebUI-User-Name"
FORWARD_USER_INFO_HEADER_USER_ID = "X-OpenWebUI-User-Id"
FORWARD_USER_INFO_HEADER_USER_EMAIL = "X-OpenWebUI-User-Email"
FORWARD_USER_INFO_HEADER_USER_ROLE = "X-OpenWebUI-User-Role"
FORWARD_SESSION_INFO_HEADER_CHAT_ID = "X-OpenWebUI-Chat-Id"
FORWARD_SESSION_INFO_HEADER_MESSAGE_ID = "X-OpenWebUI-Message-Id"
