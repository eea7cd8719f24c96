"""What is on disk, kept up to date in proportion to the change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fnsync.model import FunctionId, Problem, Unit
from fnsync.source.reading import Reading


@dataclass(frozen=True, slots=True)
class Changes:
    """What a refresh came to."""

    #: Units that were read anew, by path; some may differ in their stamps only.
    read: Mapping[str, Reading]
    #: Paths that are no function any more.
    removed: frozenset[str]
    #: Ids with a claim that came, went, or differs in more than its stamps.
    ids: frozenset[FunctionId]
    #: All that is refused now, by path.
    refused: tuple[Problem, ...]


class Catalog:
    """The units of a functions folder. Not for use by several threads at once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def units(self) -> Mapping[str, Unit]:
        """Path of the source -> unit."""
        raise NotImplementedError

    def ids(self) -> frozenset[FunctionId]:
        raise NotImplementedError

    def claims(self, id: FunctionId) -> tuple[Unit, ...]:
        """The units that claim an id, by path."""
        raise NotImplementedError

    def restore(self, units: Iterable[Unit]) -> None:
        """Begin with units that an earlier process read."""
        raise NotImplementedError

    def refresh(self, paths: Collection[str] | None) -> Changes:
        """Look at `paths` (files or folders, also gone ones), or with None at everything whose stamps differ."""
        raise NotImplementedError
