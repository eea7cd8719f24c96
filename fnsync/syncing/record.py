"""What is known of a source beyond its configuration: what serves, what it is held at, what came before.

One file, `record.json`, in the source's folder; written beside and renamed, so that a crash leaves the one before.
"""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)


class Switched(msgspec.Struct, frozen=True, omit_defaults=True):
    """A commit that a source went over to."""

    commit: str
    #: Its folder under `trees/`: the commit, and what of it is taken.
    folder: str
    #: The full name of the ref it was found by.
    ref: str
    #: When it went live, epoch seconds.
    at: float
    subject: str = ""
    author: str = ""
    #: When it was committed, epoch seconds.
    committed_at: int = 0
    #: Of a range of versions, the tag that it came to.
    tag: str | None = None
    #: Whose signature was found good.
    signer: str | None = None


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of one source."""

    #: What serves; None: nothing yet.
    live: Switched | None = None
    #: What served before, the newest first, without what serves.
    history: tuple[Switched, ...] = ()
    #: The commit it is held at, by a rollback.
    pin: str | None = None
    #: Function -> the revision that is not taken again.
    quarantine: dict[str, str] = {}
    #: The folder of the tree that a function which was rolled back comes from.
    brought_back: dict[str, str] = {}
    #: When the remote last answered, epoch seconds.
    fetched_at: float | None = None


def read(file: Path) -> Record:
    """The record, or an empty one where there is none; one that cannot be read is logged, and counts as none."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Record)
    except FileNotFoundError:
        return Record()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        log.error("the record %s cannot be read, so that the source begins anew: %s", file, exc)
        return Record()


def write(file: Path, record: Record) -> None:
    """Put the record in place of the one before, forced to disk. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        with temporary.open("wb") as opened:
            opened.write(msgspec.json.format(msgspec.json.encode(record), indent=2))
            opened.flush()
            os.fsync(opened.fileno())
        temporary.rename(file)
    finally:
        temporary.unlink(missing_ok=True)


def switched(record: Record, to: Switched, keep: int) -> Record:
    """`record` with another commit live; `keep` are remembered, this one included."""
    before = () if record.live is None else (record.live,)
    history = tuple(one for one in (*before, *record.history) if one.folder != to.folder)
    return msgspec.structs.replace(record, live=to, history=history[: max(0, keep - 1)])
