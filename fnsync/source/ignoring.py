"""Which files below the functions folder do not count: hidden ones, leftovers, and what `.fnsyncignore` names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from fnsync.errors import SourceError
from fnsync.model import FileStamp, Problem
from fnsync.places import IGNORE_FILE
from fnsync.source import files

NAME = IGNORE_FILE

_LIMIT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Rules:
    """One `.fnsyncignore`; `folder` is where it lies, `""` or with a slash at its end."""

    folder: str
    spec: GitIgnoreSpec


#: The rules that hold in a folder, from the top down.
Chain = tuple[Rules, ...]


def is_ignored(path: str, is_folder: bool, chain: Chain) -> bool:
    """Whether the rules exclude a path; the deepest file that says something about it decides, as in git."""
    shown = path + "/" if is_folder else path
    for rules in reversed(chain):
        verdict = rules.spec.check_file(shown[len(rules.folder) :]).include
        if verdict is not None:
            return verdict
    return False


class Ignores:
    """Reads `.fnsyncignore` files; one is parsed again only when its stamp differs."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[FileStamp, GitIgnoreSpec, Problem | None]] = {}

    def rules(self, folder: str) -> tuple[Rules | None, Problem | None]:
        """The rules in a folder (`""` for the root), and what is wrong with its file."""
        path = f"{folder}/{NAME}" if folder else NAME
        if not os.path.lexists(self._root / path):
            self._known.pop(path, None)
            return None, None
        known = self._known.get(path)
        if known is None or files.look(self._root, path) != known[0]:
            try:
                known = self._read(path)
            except files.Vanished:
                return None, None
            except SourceError as exc:
                return None, exc.problem
            self._known[path] = known
        _, spec, problem = known
        return Rules(folder + "/" if folder else "", spec), problem

    def chain(self, folder: str) -> Chain:
        """The rules that hold for what lies in a folder."""
        parts = folder.split("/") if folder else []
        found = (self.rules("/".join(parts[:depth]))[0] for depth in range(len(parts) + 1))
        return tuple(rules for rules in found if rules is not None)

    def _read(self, path: str) -> tuple[FileStamp, GitIgnoreSpec, Problem | None]:
        content = files.load(self._root, path, _LIMIT_BYTES)
        lines = content.data.decode(errors="replace").splitlines()
        try:
            return content.stamp, GitIgnoreSpec.from_lines(lines), None
        except ValueError:
            return content.stamp, *_good_lines(lines, path)


def _good_lines(lines: Sequence[str], path: str) -> tuple[GitIgnoreSpec, Problem | None]:
    """The rules without the lines that are no pattern, and a problem that names the first of those."""
    good: list[str] = []
    problem = None
    for number, line in enumerate(lines, 1):
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            problem = problem or Problem("ignore", "no pattern of gitignore's syntax", path, number, text=line[:200])
        else:
            good.append(line)
    return GitIgnoreSpec.from_lines(good), problem
