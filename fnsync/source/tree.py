"""The files below the functions folder as the last look found them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from fnsync.model import FileStamp, Problem
from fnsync.places import enclosing
from fnsync.source.discovery import Listing

_T = TypeVar("_T")


class Tree:
    """A listing in which a part can be replaced at a cost that depends on the part alone."""

    def __init__(self) -> None:
        self.listing = Listing()
        #: Folder -> the files and folders right in it.
        self._inside: dict[str, set[str]] = {}

    @property
    def files(self) -> dict[str, FileStamp]:
        return self.listing.files

    @property
    def refused(self) -> dict[str, Problem]:
        return self.listing.refused

    def below(self, path: str) -> Iterator[str]:
        """The files at or below a path."""
        pending = [path]
        while pending:
            current = pending.pop()
            if current in self.listing.files:
                yield current
            pending.extend(self._inside.get(current, ()))

    def replace(self, path: str, found: Listing) -> set[str]:
        """Put what a new walk found in place of what was at and below `path`; return the paths that differ."""
        old = {name: self.listing.files[name] for name in self.below(path)}
        changed = {name for name in old.keys() | found.files.keys() if old.get(name) != found.files.get(name)}
        for name in old.keys() - found.files.keys():
            self._remove(name)
        for name, stamp in found.files.items():
            self._add(name, stamp)
        changed |= _replace_below(path, self.listing.refused, found.refused)
        _replace_below(path, self.listing.links, found.links)
        return changed

    def reset(self, found: Listing) -> set[str]:
        """Take a walk over everything; return the paths that came or went, or that are refused for another reason."""
        old = self.listing
        changed = set(old.files.keys() ^ found.files.keys())
        changed |= {name for name, _ in old.refused.items() ^ found.refused.items()}
        self.listing = Listing()
        self._inside = {}
        for name, stamp in found.files.items():
            self._add(name, stamp)
        self.listing.refused, self.listing.links = dict(found.refused), dict(found.links)
        return changed

    def _add(self, path: str, stamp: FileStamp) -> None:
        if path not in self.listing.files:
            for child, folder in _steps(path):
                siblings = self._inside.setdefault(folder, set())
                if child in siblings:
                    break
                siblings.add(child)
        self.listing.files[path] = stamp

    def _remove(self, path: str) -> None:
        del self.listing.files[path]
        for child, folder in _steps(path):
            siblings = self._inside[folder]
            siblings.discard(child)
            if siblings:
                break
            del self._inside[folder]


def _steps(path: str) -> Iterator[tuple[str, str]]:
    """A path with its folder, then that folder with its own, up to the root."""
    while path:
        folder = path.rpartition("/")[0]
        yield path, folder
        path = folder


def _replace_below(path: str, kept: dict[str, _T], found: dict[str, _T]) -> set[str]:
    """Replace the entries at and below a path; return the names whose entry differs."""
    old = {name: kept[name] for name in list(kept) if name == path or path in enclosing(name)}
    for name in old:
        del kept[name]
    kept.update(found)
    return {name for name in old.keys() | found.keys() if old.get(name) != found.get(name)}
