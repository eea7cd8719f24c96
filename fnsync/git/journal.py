"""What an edit of the working tree is about to do, on disk, so that a crash in the middle can be completed.

One file for each edit under way, `<folder>/<id>.json`, readable by the owner only: it holds what the files held. It is
there before the first file is touched, and gone when the edit is done or undone. An edit that cannot be completed any
more is set aside as files that people can read, in a folder `<folder>/<id>`, until somebody removes that.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fnsync.git.commit import Author
from fnsync.git.lock import writing
from fnsync.model import CommitId

log = logging.getLogger(__name__)

_SUFFIX = ".json"
#: What is in the folder of an edit that was set aside.
FILES, MESSAGE = "files", "message.txt"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one file. `path` is from the working tree's root; None: there is no file."""

    path: str
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True)
class Intent:
    """An edit: all of its changes in one commit. Without `author` it is whom git's configuration names."""

    changes: tuple[Change, ...]
    message: str
    author: Author | None = None
    #: HEAD and its branch when it began.
    base: CommitId | None = None
    branch: str | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(change.path for change in self.changes)

    @property
    def changes_files(self) -> bool:
        """Whether any file becomes something else; if not, what is on disk is to be committed as it is."""
        return any(change.before != change.after for change in self.changes)


class Journal:
    """The folder with the intents of edits that are under way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, intent: Intent) -> None:
        """Put an intent on disk; returns when it would survive a power failure. Raises NotWritable."""
        fresh = self._folder / f".{intent.id}.tmp"
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(msgspec.json.encode(intent))
                    file.flush()
                    os.fsync(descriptor)
                fresh.rename(self._path(intent.id))
                sync_folder(self._folder)
            finally:
                fresh.unlink(missing_ok=True)

    def end(self, id: str) -> None:
        """The edit is done, or undone."""
        self._path(id).unlink(missing_ok=True)

    def unfinished(self) -> Iterator[Intent]:
        """The intents that a crash left, oldest first. One that cannot be read was never begun to be carried out."""
        entries = sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
        for path in entries:
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Intent)
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
                log.error("the intent %s cannot be read and is left as it is: %s", path, exc)
        for path in self._folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def set_aside(self, intent: Intent) -> Path:
        """Give an intent up, and keep what it wanted as files; returns their folder. Raises NotWritable."""
        folder = self._folder / intent.id
        with writing(self._folder):
            folder.mkdir(exist_ok=True, mode=0o700)  # parents that mkdir makes do not get the mode
            for change in intent.changes:
                file = folder / FILES / change.path
                file.parent.mkdir(parents=True, exist_ok=True)
                if change.after is not None:
                    file.write_bytes(change.after)
            # Last: with it, the folder is complete.
            (folder / MESSAGE).write_text(intent.message, encoding="utf-8")
        self.end(intent.id)
        return folder

    def given_up(self) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
        """Folder, message and paths of each edit that was set aside."""
        for message in sorted(self._folder.glob(f"*/{MESSAGE}")):
            files = message.parent / FILES
            paths = sorted(str(path.relative_to(files)) for path in files.rglob("*") if path.is_file())
            yield message.parent, message.read_text(encoding="utf-8", errors="replace"), tuple(paths)

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}{_SUFFIX}"


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
