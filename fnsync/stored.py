"""What an earlier process left: units and rows of the index, and the last good revisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fnsync.model import LOCAL, FunctionId, FunctionRow, GoodRevision, Unit
from fnsync.provenances import head_note
from fnsync.source.snapshots import Snapshots
from fnsync.store.index import Index


@dataclass(frozen=True, slots=True)
class Stored:
    """By function or by source."""

    units: list[Unit]
    rows: list[FunctionRow]
    goods: dict[FunctionId, GoodRevision]
    #: The commits that the columns of git are of.
    heads: Mapping[str, str]
    #: Which trees the units of sources were read from.
    marks: Mapping[str, str]


def mark_note(source: str) -> str:
    """The key of the note that tells which tree a source's units were read from."""
    return f"tree:{source}"


def read_stored(index: Index, snapshots: Snapshots, sources: Iterable[str]) -> Stored:
    """Read it all. Raises StoreError."""
    names = list(sources)
    heads = {name: index.note(head_note(name)) for name in [LOCAL, *names]}
    marks = {name: index.note(mark_note(name)) for name in names}
    return Stored(
        index.units(),
        index.rows(),
        snapshots.goods(),
        {name: head for name, head in heads.items() if head is not None},
        {name: mark for name, mark in marks.items() if mark is not None},
    )
