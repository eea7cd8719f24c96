"""What a completion is answered with: whole, or as it is made; and which headers of others' answers go along."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass

JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"
#: Headers of others' answers that are the server's business.
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "date",
        "keep-alive",
        "server",
        "set-cookie",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TEXT = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Plain:
    """An answer that is complete."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass(slots=True)
class Streamed:
    """An answer that is still being made."""

    parts: AsyncGenerator[bytes, None]
    status: int = 200
    media_type: str = EVENT_STREAM
    headers: Sequence[tuple[bytes, bytes]] = ()

    @property
    def is_events(self) -> bool:
        """Whether its parts are server-sent events."""
        return is_media(self.media_type, "text/event-stream")


def passed_on(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers of an answer that somebody else made, but for those that the server decides itself, and for what
    cannot stand in a head."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers
        if _NAME.fullmatch(name) and is_text(value) and not _is_ours(name.lower())
    ]


def is_media(media_type: str, name: str) -> bool:
    """Whether a content type is `name`, however it is written and whatever parameters it has."""
    return media_type.partition(";")[0].strip().lower() == name


def is_text(value: str) -> bool:
    """Whether a header may have that value."""
    return _TEXT.fullmatch(value) is not None


def _is_ours(name: str) -> bool:
    return name in _OWN_HEADERS or name.startswith("x-fnsync-")
