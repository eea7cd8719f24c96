"""Posts a message to an address, once. Redirects are not followed, and of an answer only the beginning is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fnsync.proxies import proxy_of

if TYPE_CHECKING:
    import aiohttp

#: How long one try may take, in seconds.
LIMIT_S = 15.0
#: How much of an answer is read, in bytes.
ANSWER_BYTES = 2048
#: Statuses of a receiver that may take the same message later: too early, too many, and what is wrong with it.
_LATER = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Answered:
    """What one try came to."""

    #: None: there was no answer, and `error` says why.
    status: int | None
    #: The beginning of the answer.
    said: str = ""
    error: str | None = None
    #: How long the receiver asks to wait.
    retry_after_s: float | None = None

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def may_be_later(self) -> bool:
        """Whether the same message may be taken at another try."""
        return self.status is None or self.status >= 500 or self.status in _LATER

    def __str__(self) -> str:
        if self.status is None:
            return self.error or "no answer"
        return f"answered {self.status}" + (f": {self.said[:200]}" if self.said else "")


class Poster:
    """Posts, each message over a connection of its own. For use on one loop."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        """What a try comes to; never raises for what the other side does. No text has the address in it: its path may
        be a secret."""
        session = await self._opened()
        import aiohttp  # start time; a thread has done it by now

        address = urlsplit(url)
        try:
            async with (
                asyncio.timeout(self._limit_s),
                session.post(
                    url, data=body, headers=headers, allow_redirects=False, proxy=proxy_of(address)
                ) as response,
            ):
                said = await _beginning(response)
                retry_after_s = _retry_after(response.headers.get("retry-after"))
                return Answered(response.status, said, retry_after_s=retry_after_s)
        except TimeoutError:
            return Answered(None, error=f"no answer within {self._limit_s:g} s")
        except (aiohttp.ClientError, UnicodeError) as exc:
            reason = str(exc).replace(url, "its url").replace(address.netloc, "its host")
            return Answered(None, error=reason or type(exc).__name__)

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            aiohttp = await asyncio.to_thread(import_module, "aiohttp")  # reads the machine's certificates
            if self._session is None:
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(force_close=True),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=None),
                    auto_decompress=False,  # what is packed could be large
                )
        return self._session


async def _beginning(response: aiohttp.ClientResponse) -> str:
    said = b""
    async for part in response.content.iter_any():
        said += part
        if len(said) >= ANSWER_BYTES:
            break
    return " ".join(said[:ANSWER_BYTES].decode(errors="replace").split())


def _retry_after(value: str | None) -> float | None:
    """Seconds; it is given so, or as a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
