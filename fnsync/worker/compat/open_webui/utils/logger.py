"""Of `open_webui.utils.logger`: a format for loguru."""

from __future__ import annotations

from typing import Any

import msgspec

_FORMAT = "{time:YYYY-MM-DD HH:mm:ss.SSS} | {level: <8} | {name}:{function}:{line} - {message}"


def stdout_format(record: Any) -> str:
    """The format of a record: when, how grave, where, what, and what else was bound to it, as JSON."""
    more = ""
    if record["extra"]:
        record["extra"]["extra_json"] = msgspec.json.encode(record["extra"], enc_hook=str).decode()
        more = " - {extra[extra_json]}"
    return _FORMAT + more + "\n{exception}"
