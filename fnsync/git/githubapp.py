"""Tokens of GitHub Apps: asked for with the app's private key, good for an hour."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any

from fnsync.configgit import GithubApp
from fnsync.errors import AccessRefused, ConfigError, FetchFailed
from fnsync.git.remote import redacted
from fnsync.git.sshaccess import clean_pem

#: How long before its end a token is no longer used, in seconds.
MARGIN_S = 300.0
#: No token is used for longer, whatever the other side says.
LONGEST_S = 3600.0
#: How long GitHub may take, in seconds.
LIMIT_S = 20.0
MOST_BYTES = 64 * 1024
#: How long what the key signs is good for; GitHub takes ten minutes at most. Clocks differ.
_SIGNED_S = 540
_SKEW_S = 60
_SAID_CHARACTERS = 200

_Key = tuple[str, int, int, str, bool]


@dataclass(slots=True)
class _Kept:
    token: str = field(repr=False)
    #: On the clock that never jumps.
    until: float


class GithubTokens:
    """The tokens of all GitHub Apps of a server. Any thread may ask."""

    def __init__(self) -> None:
        self._kept: dict[_Key, _Kept] = {}
        #: One question at a time for each, so that many sources of one app ask once.
        self._locks: defaultdict[_Key, Lock] = defaultdict(Lock)
        self._lock = Lock()

    def token(
        self, app: GithubApp, environ: Mapping[str, str], *, write: bool = False, named: str = "auth.github_app"
    ) -> str:
        """A token that is good for five minutes at least. Blocks.

        Raises ConfigError for a key that is none, AccessRefused where GitHub does not give one, FetchFailed where it
        cannot be reached.
        """
        pem = _pem(app, environ, named)
        key = (app.api, app.id, app.installation, hashlib.sha256(pem.encode()).hexdigest(), write)
        with self._lock:
            lock = self._locks[key]
        with lock:
            kept = self._kept.get(key)
            if kept is None or kept.until <= time.monotonic():
                kept = _ask(app, pem, write, named)
                with self._lock:
                    self._kept[key] = kept
            return kept.token

    def forget(self, token: str) -> None:
        """Do not give out this token again."""
        with self._lock:
            for key in [key for key, kept in self._kept.items() if kept.token == token]:
                del self._kept[key]


def _pem(app: GithubApp, environ: Mapping[str, str], named: str) -> str:
    try:
        return clean_pem(app.key.value(environ))
    except ConfigError as exc:
        raise ConfigError(f"{named}.key: {exc.message}", hint=exc.hint) from exc


def _shown(app: GithubApp) -> str:
    return redacted(app.api, app.api)


def _signed(app: GithubApp, pem: str, named: str) -> str:
    """What shows GitHub that we have the app's key."""
    import jwt  # start time

    now = int(time.time())
    claims = {"iat": now - _SKEW_S, "exp": now + _SIGNED_S, "iss": str(app.id)}
    try:
        return jwt.encode(claims, pem, algorithm="RS256")
    # ValueError, TypeError and InvalidKeyError: what is no key, has a passphrase, or is of another kind.
    except (ValueError, TypeError, jwt.PyJWTError) as exc:
        raise ConfigError(
            f"{named}.key: is no private key that GitHub gives: RSA, PEM, without a passphrase",
            hint="the app's settings at GitHub make a new one: Private keys, Generate a private key",
        ) from exc


def _ask(app: GithubApp, pem: str, write: bool, named: str) -> _Kept:
    import httpx  # start time

    address = f"{app.api.rstrip('/')}/app/installations/{app.installation}/access_tokens"
    headers = {
        "Authorization": f"Bearer {_signed(app, pem, named)}",
        "Accept": "application/vnd.github+json",
        "User-Agent": "fnsync",
    }
    wanted = {"permissions": {"contents": "write" if write else "read"}}
    asked = time.monotonic()
    try:
        with (
            httpx.Client(timeout=LIMIT_S) as client,
            client.stream("POST", address, headers=headers, json=wanted) as response,
        ):
            status, body = response.status_code, _body(response)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
        raise FetchFailed(
            f"{named}: {_shown(app)} cannot be reached: {redacted(str(exc), app.api) or type(exc).__name__}",
            hint="see github_app.api, and whether it can be reached from here",
        ) from exc
    if status != 201:
        raise _refused(app, status, body, named)
    return _kept(app, body, asked, named)


def _body(response: Any) -> dict[str, Any]:
    """The answer's object; empty where it is none, or too large."""
    data = b""
    for piece in response.iter_bytes():
        data += piece
        if len(data) > MOST_BYTES:
            return {}
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _kept(app: GithubApp, body: dict[str, Any], asked: float, named: str) -> _Kept:
    token, end = body.get("token"), body.get("expires_at")
    try:
        left = datetime.fromisoformat(str(end)).timestamp() - time.time()
    except ValueError:
        left = 0.0
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise FetchFailed(f"{named}: {_shown(app)} answered something else than a token", hint="see github_app.api")
    return _Kept(token, asked + min(left, LONGEST_S) - MARGIN_S)


def _refused(app: GithubApp, status: int, body: dict[str, Any], named: str) -> FetchFailed:
    said = str(body.get("message", ""))[:_SAID_CHARACTERS]
    told = f"{named}: {_shown(app)} answered {status}{f' ({said})' if said else ''}"
    if status == 401:
        return AccessRefused(
            f"{told}: the key is not one of app {app.id}",
            hint="see github_app.id and github_app.key, and whether this machine's clock is right",
        )
    if status == 404:
        return AccessRefused(
            f"{told}: app {app.id} has no installation {app.installation}",
            hint="the installation's number is the last part of its page's address at GitHub",
        )
    if status in (403, 422):
        return AccessRefused(
            f"{told}: app {app.id} may not do this with installation {app.installation}",
            hint="the app needs the permission Contents, and its installation must not be suspended",
        )
    return FetchFailed(f"{told}, and no token", hint="see github_app.api")
