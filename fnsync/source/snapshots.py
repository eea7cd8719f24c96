"""Immutable copies of revisions, and the record of which revision of a function last loaded well."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fnsync.model import FunctionId, GoodRevision, Revision, Unit


class Snapshots:
    """The folders `snapshots` and `live` of the data folder."""

    def __init__(self, folder: Path, *, grace_s: float = 600.0) -> None:
        """`folder` is the data folder; what is younger than `grace_s` is never collected."""
        self._data = folder
        self._grace_s = grace_s

    def write(self, root: Path, unit: Unit) -> Path:
        """Return the snapshot's folder, made if needed. Raises SourceError (`changed_meanwhile`)."""
        raise NotImplementedError

    def folder(self, revision: Revision) -> Path:
        """Where the revision's snapshot is, or would be."""
        raise NotImplementedError

    def has(self, revision: Revision) -> bool:
        raise NotImplementedError

    def record_good(self, good: GoodRevision) -> None:
        raise NotImplementedError

    def good(self, id: FunctionId) -> GoodRevision | None:
        raise NotImplementedError

    def goods(self) -> dict[FunctionId, GoodRevision]:
        raise NotImplementedError

    def forget(self, id: FunctionId) -> None:
        raise NotImplementedError

    def collect(self, keep: Collection[Revision]) -> int:
        """Remove what nobody needs; return how many snapshots went."""
        raise NotImplementedError
