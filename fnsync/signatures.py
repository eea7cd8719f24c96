"""Signatures of webhooks and notifications: HMAC-SHA256 in the forms of those who send them. Pure: no I/O, no clock.

Headers are as ASGI has them: names in lower case, both in bytes. Nothing tells how far a wrong signature was right.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["github", "gitlab", "gitea", "generic"]
Headers = Mapping[bytes, bytes]

#: How far the time that a sender signed may be from ours, in seconds.
WINDOW_S = 300
#: So many signatures in one header are looked at; senders have two while they change their secret.
MOST_SIGNATURES = 4
#: What a secret begins with that is given in the form of standardwebhooks.com.
STANDARD_PREFIX = "whsec_"
_OURS = b"x-fnsync-signature"
_HUB = b"x-hub-signature-256"
_GITLAB = b"x-gitlab-token"
_STANDARD = b"webhook-signature"


@dataclass(frozen=True, slots=True)
class Signed:
    """A message that is its sender's."""

    #: The same when it is sent again, and part of what was signed; None: nothing is.
    delivery: bytes | None


Check = Callable[[Headers, bytes, float], Signed | None]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the messages of one sender are signed."""

    #: The headers that have a signature; without any of them a message need not be read.
    names: tuple[bytes, ...]
    #: Whose a message is, by its headers, its body and the time in seconds since the epoch; None: not the sender's.
    check: Check


def scheme(kind: Kind, secret: str) -> Scheme:
    """How a sender of that kind signs. Raises ValueError for a secret that cannot be one of that kind."""
    if kind == "github":
        return _first(_plain(_HUB, secret, b"sha256="))
    if kind == "gitea":
        bare = (b"x-forgejo-signature", b"x-gitea-signature")
        return _first(*(_plain(name, secret) for name in bare), _plain(_HUB, secret, b"sha256="))
    if kind == "gitlab":
        # Who has GitLab sign wants its messages signed: the token alone would prove less.
        return _standard(secret) if secret.startswith(STANDARD_PREFIX) else _token(secret)
    return _first(_timed(secret), _standard(secret))


def sign(secret: str, body: bytes, at: int) -> str:
    """The value of `X-Fnsync-Signature` for a body that is sent at that time, in seconds since the epoch."""
    return f"t={at},v1={_hmac(secret.encode(), b'%d.' % at + body).hex()}"


def _first(*schemes: Scheme) -> Scheme:
    """The first of them for which there is a header counts."""

    def check(headers: Headers, body: bytes, now: float) -> Signed | None:
        for one in schemes:
            if any(name in headers for name in one.names):
                return one.check(headers, body, now)
        return None

    return Scheme(tuple(name for one in schemes for name in one.names), check)


def _plain(name: bytes, secret: str, prefix: bytes = b"") -> Scheme:
    """The body's HMAC in hex. Ids of deliveries are not signed, so the signature itself is what a replay has too."""
    key = secret.encode()

    def check(headers: Headers, body: bytes, now: float) -> Signed | None:
        expected = prefix + _hmac(key, body).hex().encode()
        return Signed(expected) if hmac.compare_digest(headers[name].strip().lower(), expected) else None

    return Scheme((name,), check)


def _token(secret: str) -> Scheme:
    """The secret itself. Whoever can repeat a message knows it, and could send any other; its id spares work only."""
    expected = secret.encode()

    def check(headers: Headers, body: bytes, now: float) -> Signed | None:
        if not hmac.compare_digest(headers[_GITLAB].strip(), expected.strip()):
            return None
        return Signed(headers.get(b"idempotency-key"))

    return Scheme((_GITLAB,), check)


def _timed(secret: str) -> Scheme:
    """Ours: `t=<seconds since the epoch>,v1=<hex>` over `t.body`."""
    key = secret.encode()

    def check(headers: Headers, body: bytes, now: float) -> Signed | None:
        fields = [field.strip().partition(b"=") for field in headers[_OURS].split(b",")]
        times = [value for name, _, value in fields if name == b"t"]
        given = [value.lower() for name, _, value in fields if name == b"v1"][:MOST_SIGNATURES]
        if len(times) != 1 or not _is_near(times[0], now):
            return None
        expected = _hmac(key, times[0] + b"." + body).hex().encode()
        return Signed(expected) if _has(given, expected) else None

    return Scheme((_OURS,), check)


def _standard(secret: str) -> Scheme:
    """standardwebhooks.com, as GitLab signs: `v1,<base64>` over `id.time.body`."""
    key = _standard_key(secret)

    def check(headers: Headers, body: bytes, now: float) -> Signed | None:
        id, at = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
        if not id or not _is_near(at, now):
            return None
        expected = b"v1," + base64.b64encode(_hmac(key, id + b"." + at + b"." + body))
        return Signed(id) if _has(headers[_STANDARD].split()[:MOST_SIGNATURES], expected) else None

    return Scheme((_STANDARD,), check)


def _standard_key(secret: str) -> bytes:
    if not secret.startswith(STANDARD_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError(f"begins with {STANDARD_PREFIX}, and what follows is no base64")
    return key


def _is_near(at: bytes, now: float) -> bool:
    return at.isdigit() and len(at) <= 12 and abs(int(at) - now) <= WINDOW_S


def _has(given: list[bytes], expected: bytes) -> bool:
    found = [hmac.compare_digest(one, expected) for one in given]
    return any(found)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.sha256)
