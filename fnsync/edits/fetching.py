"""Fetches a source from an address: a raw file, or the page that a code host shows of one."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from fnsync.errors import Invalid, SourceError, TimeLimit
from fnsync.source.decoding import decode

if TYPE_CHECKING:
    import httpx

#: How long the whole fetch may take, in seconds.
LIMIT_S = 20.0
MOST_REDIRECTS = 5
#: Names of files that say less than the name of their folder.
_MAINS = frozenset({"main.py", "index.py", "__init__.py"})

#: Path of a page -> path of the raw file; `{main}` stands where the page shows a folder.
_PAGES = (
    # GitLab, also in groups of groups.
    (re.compile(r"(?P<project>/.+)/-/blob/(?P<rest>.+)"), "{project}/-/raw/{rest}"),
    (re.compile(r"(?P<project>/.+)/-/tree/(?P<rest>.+)"), "{project}/-/raw/{rest}/main.py"),
    (re.compile(r"(?P<project>(?:/.+)?/-/snippets/\d+)"), "{project}/raw"),
    # GitHub finds out itself where the name of a branch ends.
    (re.compile(r"(?P<project>/[^/]+/[^/]+)/blob/(?P<rest>.+)"), "{project}/raw/{rest}"),
    (re.compile(r"(?P<project>/[^/]+/[^/]+)/tree/(?P<rest>.+)"), "{project}/raw/{rest}/main.py"),
    # Gitea and Forgejo show files and folders alike.
    (re.compile(r"(?P<project>/[^/]+/[^/]+)/src/(?P<rest>(?:branch|tag|commit)/.+\.py)"), "{project}/raw/{rest}"),
    (re.compile(r"(?P<project>/[^/]+/[^/]+)/src/(?P<rest>(?:branch|tag|commit)/.+)"), "{project}/raw/{rest}/main.py"),
)
_BITBUCKET = re.compile(r"(?P<project>/[^/]+/[^/]+)/src/(?P<rest>.+)")
_GIST = re.compile(r"(?P<project>/(?:[^/]+/)?[0-9a-f]{8,})")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source, and what a function of it may be called."""

    name: str
    content: str
    #: Where it was found, without what may be a secret.
    origin: str


async def fetch(url: str, limit_bytes: int) -> Fetched:
    """The source at an address. Raises Invalid, which says what the other side answered, and TimeLimit."""
    import httpx  # start time

    raw = raw_address(url)
    try:
        async with (
            asyncio.timeout(LIMIT_S),
            httpx.AsyncClient(follow_redirects=True, max_redirects=MOST_REDIRECTS, timeout=LIMIT_S) as client,
            client.stream("GET", raw) as response,
        ):
            data = await _body(response, limit_bytes)
            final = str(response.url)
    except (TimeoutError, httpx.TimeoutException) as exc:
        raise TimeLimit(f"{_shown(raw)} did not answer within {LIMIT_S:g} s") from exc
    # What is no valid name of a host, or of a file, is told by whatever encodes it.
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
        raise Invalid(f"{_shown(raw)} cannot be fetched: {exc or type(exc).__name__}", param="url") from exc
    if not data.strip():
        raise Invalid("No data received from the URL", param="url")
    try:
        return Fetched(name_of(raw) or name_of(final) or _folder(raw), decode(data, _shown(raw)), _shown(raw))
    except SourceError as exc:
        raise Invalid(str(exc), param="url", hint=exc.hint) from exc


async def _body(response: httpx.Response, limit_bytes: int) -> bytes:
    if response.status_code != 200:
        reason = f"{response.status_code} {response.reason_phrase}".strip()
        raise Invalid(f"Failed to fetch the function: {_shown(str(response.url))} answered {reason}", param="url")
    data = b""
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > limit_bytes:
            raise Invalid(f"{_shown(str(response.url))} is larger than {limit_bytes:,} bytes", param="url")
    return data


def raw_address(url: str) -> str:
    """Where the raw file of a page is: GitHub, GitLab, Gitea, Forgejo and Bitbucket, files and folders, and gists.

    Of a folder it is the `main.py` in it. Any other address is taken as it is. Raises Invalid for what is none.
    """
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").lower()
        valid = parts.scheme in ("http", "https") and bool(host)
    except ValueError:
        valid = False
    if not valid:
        raise Invalid("url: expected an address that begins with http:// or https://", param="url")
    pages: tuple[tuple[re.Pattern[str], str], ...] = _PAGES
    if host == "bitbucket.org":
        pages = ((_BITBUCKET, "{project}/raw/{rest}"),)
    elif host == "gist.github.com":
        pages = ((_GIST, "{project}/raw"),)
    path = parts.path.rstrip("/")
    for pattern, form in pages:
        if match := pattern.fullmatch(path):
            return urlunsplit((parts.scheme, parts.netloc, form.format(**match.groupdict()), "", ""))
    return urlunsplit(parts._replace(fragment=""))


def name_of(url: str) -> str | None:
    """The name that a file's address gives: the file's, or its folder's where the file is the main one; else None."""
    segments = _segments(url)
    if not segments or not segments[-1].endswith(".py"):
        return None
    return _folder(url) if segments[-1] in _MAINS else segments[-1].removesuffix(".py")


def _folder(url: str) -> str:
    segments = _segments(url)
    return segments[-2] if len(segments) > 1 else "function"


def _segments(url: str) -> list[str]:
    return [unquote(segment) for segment in urlsplit(url).path.split("/") if segment]


def _shown(url: str) -> str:
    """An address without what may be a secret in it."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
