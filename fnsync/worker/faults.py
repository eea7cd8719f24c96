"""Exceptions of function code as Failure frames: the message, and the lines that are the function's own."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from fnsync.runtime import wire

#: Entries of a traceback that are kept, and characters of a message.
MOST_ENTRIES = 30
MOST_CHARACTERS = 16 * 1024


class Fault(Exception):
    """A failure that this worker finds itself: `code`, `hint` and `misfits` as in wire.Failure."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        line: int | None = None,
        hint: str | None = None,
        misfits: Sequence[wire.Misfit] = (),
    ) -> None:
        super().__init__(message)
        self.misfits = misfits
        self.code = code
        self.line = line
        self.hint = hint


class Places:
    """Tells the function's own files and how to name them to people."""

    def __init__(self, snapshot: str, shown: Mapping[str, str]) -> None:
        self._snapshot = Path(snapshot)
        self._shown = shown

    def show(self, filename: str) -> str | None:
        """The path to name, or None for a file that is not the function's."""
        try:
            place = Path(filename).relative_to(self._snapshot).as_posix()
        except ValueError:
            return None
        return self._shown.get(place, place)

    def failure(self, call: int, code: str, exc: BaseException) -> wire.Failure:
        """Describe `exc`: where it happened is the innermost of the function's own lines."""
        if isinstance(exc, Fault):
            return wire.Failure(
                call,
                exc.code,
                type(exc).__name__,
                shortened(str(exc)),
                line=exc.line,
                hint=exc.hint,
                misfits=list(exc.misfits),
            )
        if isinstance(exc, SyntaxError) and exc.filename:
            path = self.show(exc.filename)
            text = exc.text.rstrip("\n") if exc.text else None
            return wire.Failure(
                call, code, type(exc).__name__, shortened(exc.msg or ""), path, exc.lineno, exc.offset, text, None, []
            )
        own = [
            (path, entry)
            for entry in traceback.extract_tb(exc.__traceback__)
            if (path := self.show(entry.filename)) is not None
        ]
        path, line, text = (own[-1][0], own[-1][1].lineno, own[-1][1].line) if own else (None, None, None)
        return wire.Failure(
            call,
            code,
            type(exc).__name__,
            shortened(message_of(exc)),
            path,
            line,
            None,
            text,
            hint_for(exc),
            [f"{path}:{entry.lineno} in {entry.name}: {entry.line}" for path, entry in own[-MOST_ENTRIES:]],
            http_status=http_status(exc),
        )


def message_of(exc: BaseException) -> str:
    """The exception's text; HTTP exceptions keep theirs in `detail`."""
    try:
        return str(getattr(exc, "detail", "") or exc)
    except Exception as error:  # a __str__ that raises must not hide the exception
        return f"(its text cannot be had: {type(error).__name__})"


def http_status(exc: BaseException) -> int | None:
    """The status of an HTTP exception of Starlette or FastAPI, or one that is made like them."""
    status = getattr(exc, "status_code", None)
    return status if type(status) is int and hasattr(exc, "detail") else None


def shortened(text: str) -> str:
    """The text, cut, without what UTF-8 cannot carry."""
    text = text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def hint_for(exc: BaseException) -> str | None:
    """The way out, where the exception's type tells it."""
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        package = exc.name.partition(".")[0]
        if package == "open_webui":
            return "`fnsync check --compat` tells what of open_webui is provided here"
        return (
            f"if `{package}` is a package, add a line `requirements: {package}` to the frontmatter; "
            "if it is a shared module, its name begins with `_` under functions/"
        )
    if type(exc).__name__ == "ValidationError" and str(getattr(exc, "title", "")).endswith("Valves"):
        return "stored values are set after `__init__`: leave `self.valves` out of it, or give each field a default"
    return None
