"""A git repository, a ref and a path in one address, as pip has them: `git+https://host/repo.git@ref#path`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

from fnsync.errors import Invalid
from fnsync.git.remote import redacted

PREFIX = "git+"
#: Longest address, in characters.
MOST_CHARS = 2_000
#: Of addresses that whoever calls may name: nothing of this machine can be read through them.
REMOTE = ("https", "http", "ssh", "git")

_SCP = re.compile(r"(?:(?P<user>[^@/:\s]+)@)?(?P<host>\[[^\]/\s]+\]|[^/:\[\s]+):(?!/?/)(?P<path>[^\s]+)")
_BAD = re.compile(r"[\x00-\x20\x7f]")
#: Where the repository ends and the ref begins: behind `.git`, else at the last `@` that does not begin a name.
_ENDS = (re.compile(r"\.git@"), re.compile(r"(?<=[^/@])@(?=[^@]*$)"))


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a git repository."""

    #: As git takes it.
    url: str
    #: Branch, tag, commit, …; None: the remote's default branch.
    ref: str | None = None
    #: Folder or file, POSIX, without slashes around it; None: not said.
    path: str | None = None

    @property
    def shown(self) -> str:
        """For people: without what may be a secret."""
        ref = f"@{self.ref}" if self.ref else ""
        path = f"#{self.path}" if self.path else ""
        return f"{shown(self.url)}{ref}{path}"


def is_one(text: str) -> bool:
    """Whether a text means such an address."""
    return text.strip().lower().startswith(PREFIX)


def parse(text: str) -> Location:
    """Take an address apart. Raises Invalid for what is none, and for one that holds a password."""
    plain = text.strip()[len(PREFIX) :]
    url, _, fragment = plain.partition("#")
    if "://" not in url:
        raise Invalid(
            "url: expected git+https://HOST/REPOSITORY@REF#PATH, or the same with git+ssh://",
            param="url",
        )
    parts = _split(url)
    repository, ref = _without_ref(parts.path)
    named = parse_qs(fragment).get("subdirectory", []) if "=" in fragment else [unquote(fragment)]
    return located(
        urlunsplit(parts._replace(path=repository)), unquote(ref) if ref else None, named[0] if named else None
    )


def located(url: str, ref: str | None, path: str | None) -> Location:
    """A place by its parts. Raises Invalid for what is none, and for an address that holds a password."""
    check_url(url)
    if ref is not None and (not ref or ref.startswith("-") or _BAD.search(ref)):
        raise Invalid(f"ref: {ref[:80]!r} is no branch, tag or commit", param="ref")
    return Location(url.strip(), ref, _path(path))


def check_url(url: str) -> None:
    """Raise Invalid for what is no address of a git repository, and for one that holds a password."""
    text = url.strip()
    if not text or len(text) > MOST_CHARS or _BAD.search(text) or text.startswith("-") or "::" in text.split("/")[0]:
        raise Invalid("url: expected the address of a git repository", param="url")
    if "://" not in text:
        return
    parts = _split(text)
    if parts.password is not None or (parts.username and parts.scheme in ("https", "http")):
        raise Invalid(
            f"url: {shown(text)} may hold no user or password: command lines and logs would show them",
            param="url",
            hint='give them beside it, as in "auth": {"token": {"env": "NAME"}}',
        )


def scheme(url: str) -> str:
    """How the other side is spoken to: `https`, `ssh`, …; `file` for a path of this machine."""
    text = url.strip()
    if "://" in text:
        return text.partition("://")[0].lower()
    return "ssh" if _SCP.fullmatch(text) else "file"


def shown(url: str) -> str:
    """An address without what may be a secret in it."""
    return redacted(url.strip(), url.strip())


def same(url: str, other: str) -> bool:
    """Whether two addresses name one repository, as far as they tell."""
    return _plain(url) == _plain(other)


def _plain(url: str) -> str:
    text = shown(url).rstrip("/").removesuffix(".git")
    if "://" not in text:
        return text
    parts = urlsplit(text)
    return urlunsplit(parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower()))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise Invalid(f"url: no address: {exc}", param="url") from exc
    return parts


def _without_ref(path: str) -> tuple[str, str | None]:
    for end in _ENDS:
        if match := end.search(path):
            return path[: match.end() - 1], path[match.end() :]
    return path, None


def _path(text: str | None) -> str | None:
    """A path in the repository. Raises Invalid for one that leads out of it."""
    if text is None:
        return None
    parts = [part for part in text.strip().split("/") if part not in ("", ".")]
    if ".." in parts or any(_BAD.search(part.replace(" ", "")) or part.lower() == ".git" for part in parts):
        raise Invalid(f"path: {text[:200]!r} is no path in a repository", param="path")
    return "/".join(parts) or None
