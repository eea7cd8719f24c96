"""What the functions of an import are called here: their own id where a file can have it, else one like it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from fnsync.edits.drafts import checked_id
from fnsync.edits.entries import Entry
from fnsync.errors import Invalid
from fnsync.model import FunctionId, FunctionRow
from fnsync.source.discovery import like_id


@dataclass(frozen=True, slots=True)
class Named:
    """An entry under its id here."""

    id: FunctionId
    entry: Entry
    #: Why the id is another than the entry's; None: it is the same.
    reason: str | None = None


def exactly(entries: Sequence[Entry]) -> list[Named]:
    """The entries under their own ids. Raises Invalid for an id that is none, or that is there twice."""
    named: dict[FunctionId, Named] = {}
    for place, entry in enumerate(entries):
        try:
            id = checked_id(entry.id)
        except Invalid as exc:
            raise Invalid(f"functions[{place}].id: {entry.id[:100]!r}: {exc.message}", hint=exc.hint) from exc
        if id in named:
            raise Invalid(f"functions[{place}].id: {id} is there twice")
        named[id] = Named(id, entry)
    return list(named.values())


def renamed(entries: Sequence[Entry], there: Mapping[FunctionId, FunctionRow]) -> list[Named]:
    """The entries, in their order, under ids that differ from each other; `there` are the functions that there are.

    An id of another entry's own is never taken, and an id that was made up never that of another function here. The
    same entries get the same ids again, once they are here.
    """
    own = [_own(entry) for entry in entries]
    exact = {id for id, entry in zip(own, entries, strict=True) if id == entry.id}
    used: set[FunctionId] = set()
    found: dict[int, Named] = {}
    # Ids that are right as they are come first, then those of another case, then those that are made up.
    order = sorted(range(len(entries)), key=lambda place: (own[place] is None, own[place] != entries[place].id))
    for place in order:
        entry, asked = entries[place], own[place]
        first = asked if asked is not None else like_id(entry.id)
        for id in _candidates(first):
            if id in used or (id in exact and id != entry.id):
                continue
            if id == asked or id not in there or _is_that(there[id], entry):
                break
        used.add(id)
        found[place] = Named(id, entry, None if id == entry.id else _why(first, id, used, there))
    return [found[place] for place in range(len(entries))]


def _own(entry: Entry) -> FunctionId | None:
    try:
        return checked_id(entry.id)
    except Invalid:
        return None


def _candidates(first: FunctionId) -> Iterator[FunctionId]:
    yield first
    for number in count(2):
        yield FunctionId(f"{first}_{number}")


def _is_that(row: FunctionRow, entry: Entry) -> bool:
    """Whether a function here is one that was taken in from the entry before."""
    same_text = row.content == entry.content.text
    return same_text or (entry.created_at is not None and entry.created_at == row.created_at)


def _why(first: FunctionId, id: FunctionId, used: set[FunctionId], there: Mapping[FunctionId, FunctionRow]) -> str:
    if id == first:
        return "renamed: an id is a Python name in lower case"
    return f"renamed: {first} is another function {'of the export' if first in used else 'here'}"
