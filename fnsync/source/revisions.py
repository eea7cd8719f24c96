"""The identity of a revision: a hash over what its snapshot holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fnsync.model import Part, Revision

#: Changes whenever a snapshot's layout changes, so that old snapshots are never taken for new ones.
FORMAT = b"fnsync revision 1\n"

#: Where the source file lies in every snapshot; so a revision depends neither on the id nor on the folder.
ENTRY = "function/main.py"


def digest(data: bytes) -> str:
    """The SHA-256 of a file's content, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def revision(parts: Iterable[Part]) -> Revision:
    """The hash over places and contents; the paths on disk do not matter."""
    return revision_of((part.place, part.digest) for part in parts)


def revision_of(contents: Iterable[tuple[str, str]]) -> Revision:
    """The hash over (place, digest) pairs, in any order."""
    total = hashlib.sha256(FORMAT)
    for place, content in sorted(contents):
        total.update(f"{len(place.encode())} {place} {content}\n".encode())
    return Revision(total.hexdigest())
