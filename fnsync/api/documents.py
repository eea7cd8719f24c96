"""The API's description, for programs and for people. The page needs nothing but this server."""

from __future__ import annotations

import asyncio
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fnsync.api.description import describe
from fnsync.api.exchange import Exchange
from fnsync.api.routes import Answer, Route

GROUP = "Documents"
#: How long browsers may keep the page's files, in seconds; they change with the version only.
KEPT_S = 86_400

_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fnsync API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"><noscript>This page needs JavaScript; <a href="openapi.json">openapi.json</a> does not.</noscript></div>
<script src="docs/swagger-ui.js"></script>
<script src="docs/page.js"></script>
</body>
</html>
"""
_SCRIPT = b"""SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  persistAuthorization: true,
  validatorUrl: null,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
});
"""
#: Nothing from elsewhere; the page's own library sets styles of elements, and shows pictures it holds itself.
_POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; "
    b"frame-ancestors 'none'; form-action 'self'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
#: Address below `/docs` -> file of the package that holds Swagger UI, and its media type.
_FILES = {
    "/docs/swagger-ui.js": ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "/docs/swagger-ui.css": ("swagger-ui.css", "text/css; charset=utf-8"),
}


class Documents:
    """Answers `/openapi.json` and `/docs`."""

    def __init__(self, routes: tuple[Route, ...], version: str) -> None:
        """`routes` are those of the others; its own are described, too."""
        self._others = routes
        self._version = version

    @cached_property
    def description(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return describe((*self._others, *self.routes()), self._version)

    def routes(self) -> list[Route]:
        """What it answers."""
        page = Answer(str, "The page", ("text/html",))
        return [
            Route(
                "GET",
                ("/openapi.json",),
                self.openapi,
                "anyone",
                "This description",
                GROUP,
                answers={200: Answer(dict[str, Any])},
            ),
            Route("GET", ("/docs",), self.page, "anyone", "This description for people", GROUP, answers={200: page}),
        ]

    def files(self) -> list[Route]:
        """What the page loads; no part of the description."""
        answers = {200: Answer()}
        return [
            Route("GET", (path,), self.file, "anyone", "", GROUP, answers=answers)
            for path in (*_FILES, "/docs/page.js")
        ]

    async def openapi(self, exchange: Exchange) -> None:
        await exchange.json(200, await asyncio.to_thread(lambda: self.description))

    async def page(self, exchange: Exchange) -> None:
        await exchange.plain(200, "text/html; charset=utf-8", _PAGE, _HEADERS)

    async def file(self, exchange: Exchange) -> None:
        path = exchange.scope["path"]
        kept = [*_HEADERS, (b"cache-control", b"max-age=%d" % KEPT_S)]
        if path not in _FILES:
            await exchange.plain(200, "text/javascript; charset=utf-8", _SCRIPT, kept)
            return
        name, media_type = _FILES[path]
        data = await asyncio.to_thread(_static(name).read_bytes)
        await exchange.plain(200, media_type, data, kept)


def _static(name: str) -> Path:
    """A file of the package that holds Swagger UI. The package itself is not imported: it would take FastAPI along."""
    found = find_spec("fastapi_offline")
    assert found is not None and found.origin is not None, "it is among the dependencies"
    return Path(found.origin).parent / "static" / name
