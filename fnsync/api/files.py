"""Files that functions keep for their users: each user gets their own, at the address that functions give them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from fnsync.api.exchange import Exchange
from fnsync.api.routes import Answer, Route, api_route
from fnsync.chat.answers import is_text
from fnsync.errors import NotFound

if TYPE_CHECKING:
    from fnsync.service import Service

#: Types that a browser shows in its page; it is offered others to save.
_SHOWN = ("image/", "audio/", "video/", "text/plain", "application/pdf")
#: Whatever a file holds, it runs nothing in the name of this server.
_HARMLESS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    (b"cache-control", b"private, max-age=300"),
)


class FileEndpoints:
    """Answers with what functions have kept."""

    def __init__(self, service: Service) -> None:
        self._filing = service.filing

    def routes(self) -> list[Route]:
        """What it answers."""
        content = Answer(None, "The content, with the type that the function gave it", ("*/*",))
        return [
            api_route(
                "GET",
                "/files/{id}/content",
                self.content,
                "caller",
                "The content of a file that functions keep for the caller",
                "Chat",
                {200: content},
                errors=(NotFound,),
            )
        ]

    async def content(self, exchange: Exchange) -> None:
        id: str = exchange.scope["path_params"]["id"]
        found = await asyncio.to_thread(self._find, exchange.caller.id, id)
        if found is None:
            raise NotFound(f"functions keep no file {id[:200]!r} for you")
        about, data = found
        media_type = _media_type(about)
        await exchange.plain(200, media_type, data, [*_HARMLESS, _disposition(about, media_type)])

    def _find(self, user: str, id: str) -> tuple[dict[str, Any], bytes] | None:
        """The record and the content of a user's file. Blocking."""
        record = self._filing.kept(user, "file", id)
        if record is None:
            return None
        about: dict[str, Any] = msgspec.json.decode(record.value)
        path = about.get("path")
        data = self._filing.content(user, path) if isinstance(path, str) else None
        return None if data is None else (about, data)


def _media_type(about: dict[str, Any]) -> str:
    meta = about.get("meta")
    given = meta.get("content_type") if isinstance(meta, dict) else None
    return given if isinstance(given, str) and given and is_text(given) else "application/octet-stream"


def _disposition(about: dict[str, Any], media_type: str) -> tuple[bytes, bytes]:
    how = "inline" if media_type.startswith(_SHOWN) else "attachment"
    name = quote(str(about.get("filename") or "file"), safe="", errors="replace")
    return b"content-disposition", f"{how}; filename*=UTF-8''{name}".encode()
