"""Finds which commit made each function what it is: its newest version.

From HEAD down each function is followed along the parents that have it as it is, until a commit is reached that
differs from all of its parents. So a merge counts if what came out of it is on none of its sides, and a change that
a merge threw away does not.
"""

from __future__ import annotations

from collections.abc import Collection

from fnsync.git.labelling import Labelling
from fnsync.git.log import Entry
from fnsync.model import CommitId
from fnsync.places import owners


class Present:
    """Is shown the entries of a log, children before parents."""

    def __init__(self, sources: Collection[str], labelling: Labelling, leading: Collection[CommitId] = ()) -> None:
        """`leading`: where parents do not matter otherwise, these are followed."""
        #: Source -> commit.
        self.found: dict[str, CommitId] = {}
        self._sources = sources
        self._labelling = labelling
        self._leading = leading
        #: All sources that are nowhere else are followed here.
        self._common: CommitId | None = None
        self._begun = False
        #: Those found, or followed on their own.
        self._apart: set[str] = set()
        self._own: dict[CommitId, set[str]] = {}
        self._owners: dict[str, tuple[str, ...]] = {}

    @property
    def reached(self) -> set[CommitId | None]:
        """The commits beyond those shown that sources were followed to; None stands for nowhere."""
        return {*self._own, *([self._common] if self._begun else [])}

    def see(self, entry: Entry) -> None:
        """Look at the next commit. Raises RepositoryError."""
        if not self._begun:
            self._begun, self._common = True, entry.commit
        here = self._own.pop(entry.commit, set())
        is_common = entry.commit == self._common
        if not here and not is_common:
            return
        everywhere = (1 << len(entry.deltas)) - 1
        for source, sides in self._changed(entry, here, is_common).items():
            here.discard(source)
            self._apart.add(source)
            if sides == everywhere:
                self.found[source] = entry.commit
            else:
                same = [parent for at, parent in enumerate(entry.parents) if not sides >> at & 1]
                self._own.setdefault(self._first(same), set()).add(source)
        if is_common:
            self._common = self._first(entry.parents) if entry.parents else None
        if here and entry.parents:
            onward = self._first(entry.parents)
            self._own[onward] = here | self._own.get(onward, set())

    def _changed(self, entry: Entry, here: set[str], is_common: bool) -> dict[str, int]:
        """The sources that are looked for here and differ from a parent, with a bit for each such parent."""
        changed: dict[str, int] = {}
        for at, deltas in enumerate(entry.deltas):
            for path, delta in deltas.items():
                for source in self._owned(path):
                    is_sought = source in here or (is_common and source not in self._apart)
                    if is_sought and self._labelling.counts(path, source, delta):
                        changed[source] = changed.get(source, 0) | 1 << at
        return changed

    def _owned(self, path: str) -> tuple[str, ...]:
        found = self._owners.get(path)
        if found is None:
            found = self._owners[path] = tuple(owner for owner in owners(path) if owner in self._sources)
        return found

    def _first(self, parents: Collection[CommitId]) -> CommitId:
        return next((parent for parent in parents if parent in self._leading), next(iter(parents)))
