"""Contents of files: the server keeps them; each call has copies in a folder of its own, made as they are needed."""

from __future__ import annotations

import functools
import os
import re
import shutil
from pathlib import Path
from typing import Any

from fnsync.worker import host
from fnsync.worker.compat.ready import Question
from fnsync.worker.compat.records import Asking
from fnsync.worker.output import current_call

#: What the server finds a content by.
_KEY = re.compile(r"[0-9a-f]{32}_[^/]+")


@functools.cache
def folder() -> Path:
    """Where functions write files, and calls have their copies: in the worker's own folder, which is known once it is
    a worker."""
    place = Path(os.environ.get("TMPDIR") or os.getcwd()).resolve() / "uploads"
    place.mkdir(mode=0o700, exist_ok=True)
    return place


def keep(name: str, data: bytes) -> Asking:
    """Keep a content; return its path here."""
    told = yield Question("keep_content", {"name": name}, data)
    place = path_of(told.value)
    place.write_bytes(data)
    return str(place)


def path_of(key: str) -> Path:
    """Where this call's copy of a content is, or will be. Another's would not show whether the caller may read it."""
    call = current_call.get()
    place = folder() / f"call-{call}"
    if call and not place.exists():
        place.mkdir(mode=0o700)
        host.current().at_end(call, lambda: shutil.rmtree(place, ignore_errors=True))
    return place / Path(key).name


def key_of(path: Any) -> str | None:
    """The key in a path that a worker, be it another, gave to a content; None: it is none."""
    name = Path(str(path)).name if path else ""
    return name if _KEY.fullmatch(name) else None


def fetch(path: Any) -> Asking:
    """Have the copy there; return its path. Raises FileNotFoundError."""
    key = key_of(path)
    if key is None:
        if (own := _own(path)) is not None:
            return str(own)
        raise FileNotFoundError(f"{path} is no file that functions keep")
    place = path_of(key)
    if not place.exists():
        told = yield Question("content", {"name": key})
        if told.value is None:
            raise FileNotFoundError(f"the content of {key} is not kept here for this user")
        place.write_bytes(told.data)
    return str(place)


def adopt(path: Any) -> Asking:
    """The key of a path, after keeping the content if it is a file that the function wrote itself; None: neither."""
    key = key_of(path)
    if key is None and (own := _own(path)) is not None:
        key = key_of((yield from keep(own.name, own.read_bytes())))
    return key


def _own(path: Any) -> Path | None:
    """A file that the function wrote itself, below the worker's own folder. A path may come from whoever chats, and
    must lead to nothing else that this process can read."""
    place = Path(str(path)).resolve() if path else folder()
    return place if place.is_file() and place.is_relative_to(folder().parent) else None


def drop(path: Any) -> Asking:
    """Forget a content and its copy; returns whether it was there."""
    key = key_of(path)
    if key is None:
        return False
    path_of(key).unlink(missing_ok=True)
    told = yield Question("drop_content", {"name": key})
    return told.value
