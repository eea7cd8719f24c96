"""One provider of models over HTTP: what it lists, and completions that pass through it byte for byte.

OpenAI's protocol, which Ollama speaks too but for its list of models.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec

from fnsync.chat.answers import Plain, Streamed, passed_on
from fnsync.errors import UpstreamFailed, UpstreamTimeout
from fnsync.proxies import proxy_of

#: How long a connection may take, in seconds.
CONNECT_S = 10.0
#: How often a connection is tried; nothing was sent before there is one.
CONNECT_TRIES = 2
#: How long an unused connection is kept; many servers close theirs after more, and a request must not meet that.
KEEP_ALIVE_S = 4.0
#: How long a list of models may take, and how large it may be.
LIST_S = 10.0
LIST_BYTES = 8 * 1024**2
MOST_MODELS = 10_000
#: The largest answer that is not a stream.
ANSWER_BYTES = 64 * 1024**2
#: How much of an answer an error repeats.
SAID = 200

_PATHS = {"openai": ("/models", "/chat/completions"), "ollama": ("/api/tags", "/v1/chat/completions")}
_HIDDEN = b"[key]"
#: A key that is shorter is a placeholder, and its characters are found in any text.
SHORTEST_KEY = 8


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model that a provider has."""

    id: str
    name: str
    created: int
    owned_by: str


class Provider:
    """Talks to one provider. For use on one loop."""

    def __init__(self, name: str, kind: str, url: str, key: str | None, timeout_s: float) -> None:
        """`timeout_s`: how long an answer may take to begin, and each pause in it."""
        self._name = name
        self._kind = kind
        self._key = key
        base = urlsplit(url)
        models, chat = _PATHS[kind]
        path = base.path.rstrip("/")
        if kind == "ollama":
            path = path.removesuffix("/v1")  # both addresses are given by people
        self._models_url, self._chat_url = (urlunsplit(base._replace(path=path + end)) for end in (models, chat))
        headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "fnsync"}
        self._headers = headers | ({"authorization": f"Bearer {key}"} if key else {})
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=timeout_s)
        self._proxy = proxy_of(base)
        self._open: aiohttp.ClientSession | None = None

    @property
    def _session(self) -> aiohttp.ClientSession:
        """The connections, which begin with the first request."""
        if self._open is None:
            self._open = aiohttp.ClientSession(
                headers=self._headers,
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),  # what it sets for one caller is none of the next one's
                auto_decompress=False,
                proxy=self._proxy,
            )
        return self._open

    async def models(self) -> tuple[BaseModel, ...]:
        """What it has now. Raises UpstreamFailed, UpstreamTimeout."""
        with self._failures():
            response = await self._session.get(
                self._models_url, timeout=aiohttp.ClientTimeout(total=LIST_S), allow_redirects=False
            )
            async with response:
                body = await self._whole(response, LIST_BYTES)
        if response.status != 200:
            raise self._failed(f"its list of models is answered {response.status}: {_said(body)}")
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            raise self._failed(f"its list of models is not JSON: {exc}") from exc
        found = value.get("models" if self._kind == "ollama" else "data") if isinstance(value, dict) else value
        if not isinstance(found, list):
            raise self._failed("its list of models has no list in it")
        read = (_model(entry, self._kind) for entry in found[:MOST_MODELS])
        return tuple({model.id: model for model in read if model is not None}.values())

    @asynccontextmanager
    async def completion(self, body: bytes, stream: bool) -> AsyncIterator[Plain | Streamed]:
        """The answer to a request's body, whatever its status. Leaving the block ends it at the provider too.

        Raises UpstreamFailed and UpstreamTimeout; the parts of a stream do as well.
        """
        with self._failures():
            response = await self._posted(body)
        try:
            if 300 <= response.status < 400:  # clients would follow it with what they know of us
                where = response.headers.get("location", "elsewhere")
                raise self._failed(f"it is not at its `url`, and sends to {where[:SAID]}")
            media_type = response.headers.get("content-type", "application/octet-stream")
            headers = passed_on(response.headers.items())
            if stream and response.status < 400:
                yield Streamed(self._parts(response), response.status, media_type, headers)
                return
            with self._failures():
                answer = await self._whole(response, ANSWER_BYTES)
            yield Plain(answer, response.status, media_type, headers)
        finally:
            response.close()  # back to the others only if it was read to its end

    async def _posted(self, body: bytes) -> aiohttp.ClientResponse:
        for left in reversed(range(CONNECT_TRIES)):
            try:
                return await self._session.post(self._chat_url, data=body, allow_redirects=False)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        """End all connections."""
        if self._open is not None:
            await self._open.close()

    async def _parts(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        with self._failures():
            async for part in response.content.iter_any():
                yield part

    async def _whole(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The body. A key of ours that it repeats is taken out: some providers say which one was wrong."""
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > limit:
                raise self._failed(f"it answers with more than {limit} bytes")
        if self._key and len(self._key) >= SHORTEST_KEY and response.status >= 400:
            return bytes(body).replace(self._key.encode(), _HIDDEN)
        return bytes(body)

    def _failures(self) -> _Failures:
        return _Failures(self._name)

    def _failed(self, what: str) -> UpstreamFailed:
        return UpstreamFailed(f"the upstream {self._name} does not work: {what}")


class _Failures:
    """Turns aiohttp's errors into ours; none of them names the key."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, TimeoutError) and not isinstance(exc, aiohttp.ConnectionTimeoutError):
            raise UpstreamTimeout(f"the upstream {self._name} took too long to answer") from exc
        if isinstance(exc, aiohttp.ClientError):
            said = str(exc) or type(exc).__name__
            raise UpstreamFailed(f"the upstream {self._name} cannot be reached: {said}") from exc


def _model(entry: Any, kind: str) -> BaseModel | None:
    if not isinstance(entry, Mapping):
        return None
    id = entry.get("model") or entry.get("name") if kind == "ollama" else entry.get("id")
    if not isinstance(id, str) or not id:
        return None
    name, created, owner = entry.get("name"), entry.get("created"), entry.get("owned_by")
    return BaseModel(
        id,
        name if isinstance(name, str) and name else id,
        created if isinstance(created, int) else 0,
        owner if isinstance(owner, str) and owner else kind,
    )


def _said(body: bytes) -> str:
    return " ".join(body[:SAID].decode(errors="replace").split()) or "without a word"
