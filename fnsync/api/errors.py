"""Errors as HTTP answers: OpenAI's shape under `/v1`, `{"detail": …}` elsewhere."""

from __future__ import annotations

import math
from typing import Any

from fnsync.errors import FnsyncError, FunctionRaised, Invalid, RateLimited, Unauthorized
from fnsync.model import Quota

Headers = list[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client closed the connection before the answer was complete. No answer is due."""


class Unexpected(FnsyncError):
    """What a client learns of an error nobody foresaw; the log has the rest."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("the server made a mistake; its log says more")


class MethodNotAllowed(FnsyncError):
    """A known address was asked with a method that it does not have."""

    code, status, type = "method_not_allowed", 405, "invalid_request_error"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not possible here; allowed: {allowed}")
        self.allowed = allowed


def message(exc: FnsyncError) -> str:
    """Return the text for clients; a function's exception has its class in front."""
    if isinstance(exc, FunctionRaised) and exc.message != exc.exception:
        return f"{exc.exception}: {exc.message}"
    return exc.message


def openai_error(exc: FnsyncError, *, admin: bool = False) -> dict[str, Any]:
    """Return OpenAI's `error` object; admins also get the traceback in the function's own lines."""
    error: dict[str, Any] = {
        "message": message(exc),
        "type": exc.type,
        "param": exc.param if isinstance(exc, Invalid) else None,
        "code": exc.code,
    }
    return error | _extras(exc, admin)


def body(exc: FnsyncError, *, openai: bool, admin: bool = False) -> dict[str, Any]:
    """Return the JSON body of the answer."""
    if openai:
        return {"error": openai_error(exc, admin=admin)}
    return {"detail": message(exc)} | _extras(exc, admin)


def headers(exc: FnsyncError) -> Headers:
    """Return the headers that belong to the error."""
    found: Headers = []
    retry_after_s = getattr(exc, "retry_after_s", None)
    if retry_after_s is not None:
        found.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after_s))))
    if isinstance(exc, RateLimited) and exc.quota is not None:
        found += quota_headers(exc.quota)
    if isinstance(exc, Unauthorized):
        found.append((b"www-authenticate", b"Bearer"))
    if isinstance(exc, MethodNotAllowed):
        found.append((b"allow", exc.allowed.encode()))
    return found


def quota_headers(quota: Quota) -> Headers:
    """Return the headers that tell how it stands with a rate limit; the reset in seconds since the epoch."""
    return [
        (b"x-ratelimit-limit", b"%d" % quota.limit),
        (b"x-ratelimit-remaining", b"%d" % quota.remaining),
        (b"x-ratelimit-reset", b"%d" % math.ceil(quota.reset_at)),
    ]


def _extras(exc: FnsyncError, admin: bool) -> dict[str, Any]:
    extras: dict[str, Any] = {"hint": exc.hint} if exc.hint else {}
    if exc.filter is not None:
        extras["filter"] = exc.filter
    if admin:
        problem = getattr(exc, "problem", None)
        traceback = getattr(exc, "traceback", None) or getattr(problem, "traceback", None)
        if traceback:
            extras["traceback"] = list(traceback)
    return extras
