"""Functions as they would be, beside the functions folder: what an edit makes is read and loaded before it is written.

A staging folder holds the edit's files at their places, and copies of what their functions are made of besides:
helpers, shared modules, `.fnsyncignore`. Copies, since a second name for a file would change its stamp.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from fnsync.model import Unit
from fnsync.places import is_noise, own_folder, settings_of
from fnsync.source import files, ignoring
from fnsync.source.discovery import walk
from fnsync.source.ignoring import Ignores
from fnsync.source.reading import TOTAL_FILES, Reader


class Staging:
    """`with Staging(…) as staging:`; the folder is gone afterwards. Blocking."""

    def __init__(self, folder: Path, functions: Path) -> None:
        """Make a folder of its own below `folder`; `functions` is the functions folder."""
        self.root = folder / secrets.token_hex(8)
        self._functions = functions
        self._ignores = Ignores(functions)
        self._copied: set[str] = set()

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, mode=0o700)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def place(self, changes: Mapping[str, bytes | None], sources: Iterable[str]) -> None:
        """Put the files of an edit (path from the functions folder -> content, None: gone) and what `sources` need."""
        for source in sources:
            self._copy_around(source)
        for path, content in changes.items():
            file = self.root / path
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)

    def units(self, sources: Iterable[str]) -> list[Unit]:
        """Read the functions whose sources these are."""
        reader = Reader(self.root)
        return [reader.read(source).unit for source in sources]

    def _copy_around(self, source: str) -> None:
        own = own_folder(source)
        if own is not None:
            self._copy(own)
        for path in (source, settings_of(source)):
            self._copy_file(path)
        for around in _upwards(source.rpartition("/")[0]):
            if around in self._copied:
                continue
            self._copied.add(around)
            self._copy_file(f"{around}/{ignoring.NAME}" if around else ignoring.NAME)
            for entry in _names(self._functions / around):
                if entry.startswith("_") and not is_noise(entry):
                    self._copy(f"{around}/{entry}" if around else entry)

    def _copy(self, path: str) -> None:
        for found in walk(self._functions, path, ignores=self._ignores, most=TOTAL_FILES + 10).files:
            self._copy_file(found)

    def _copy_file(self, path: str) -> None:
        source, target = self._functions / path, self.root / path
        if files.look(self._functions, path) is None or target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except (FileNotFoundError, IsADirectoryError):
            return  # it went away; whoever needs it says so when the function is read


def _upwards(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield ""


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
