"""Which shared modules a file's imports ask for, and where they lie."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fnsync.model import FileStamp, Problem
from fnsync.source import files
from fnsync.source.discovery import Listing, walk
from fnsync.source.ignoring import Ignores
from fnsync.source.imports import Imported

#: Cannot be files: Python has them already.
_BUILT_IN = frozenset(sys.builtin_module_names) | {"__future__", "__main__"}


def asked(found: Iterable[Imported], depth: int, helpers: frozenset[str]) -> Iterator[str]:
    """The names of shared modules that imports ask for.

    `depth` is the number of packages the importing file lies in, `helpers` what lies beside the source; a
    relative import that stays inside the packages asks for nothing shared.
    """
    for item in found:
        inside = 0 < item.level <= depth
        if item.top.startswith("_") and not inside and item.top not in helpers and item.top not in _BUILT_IN:
            yield item.top


@dataclass(slots=True)
class Found:
    """A shared module. Without files it does not exist; then `stamps` tells what would change that."""

    #: Place in the snapshot -> path on disk.
    files: dict[str, str] = field(default_factory=dict)
    problem: Problem | None = None
    stamps: dict[str, FileStamp | None] = field(default_factory=dict)


def locate(root: Path, folder: str, name: str, ignores: Ignores, most: int) -> Found:
    """Find the shared module `name` as seen from `folder`: the nearest wins, of a file and a folder as in Python."""
    found = Found()
    for around in _upwards(folder):
        base = f"{around}/{name}" if around else name
        package, module = listed(root, base, ignores, most), listed(root, base + ".py", ignores, most)
        found.stamps |= {base: None, base + ".py": None}
        found.stamps.update({**package.files, **module.files})
        inside = {f"shared/{name}{path[len(base) :]}": path for path in package.files if path != base}
        is_module = base + ".py" in module.files
        if inside and (f"{base}/__init__.py" in package.files or not is_module):
            found.files = inside
        elif is_module:
            found.files = {f"shared/{name}.py": base + ".py"}
        refused = {**package.refused, **module.refused}
        if refused:
            found.problem = refused[min(refused)]
        if found.files or refused:
            break
    return found


def _upwards(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield ""


def listed(root: Path, path: str, ignores: Ignores, most: int) -> Listing:
    """What lies at a path and is not ignored; costs little when nothing is there."""
    if files.look(root, path) is None and not (root / path).is_symlink():
        return Listing()
    return walk(root, path, ignores=ignores, most=most)
