"""Carries out an edit of the working tree: files and commit, all or nothing, also through a crash.

    step        then a crash leaves                       the next start
    begun       an intent in the journal                  completes the edit
    prepared    …and new contents under hidden names      completes the edit
    written     …and the files changed, not committed     completes the edit
    committed   …and the commit, the index maybe old      brings the index up to date
    ended       nothing

Completing means: the same files, author and message. If somebody changed one of the files meanwhile, all stay as they
are, and what the edit wanted is set aside (git.journal).
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fnsync.errors import Conflict, FnsyncError, RepositoryBlocked
from fnsync.git import command, lock
from fnsync.git.admission import admit
from fnsync.git.commit import PREFIX, Made, commit, made_after, remove_leftovers, renew_index, settle
from fnsync.git.journal import Change, Intent, Journal, sync_folder
from fnsync.git.lock import writing
from fnsync.git.worktree import WorkTree

log = logging.getLogger(__name__)

#: Names of files under way begin so; discovery and the watcher look at none of them.
TEMPORARY = ".fnsync-"
#: For files that are new; the umask takes from it.
MODE = 0o666

OnStep = Callable[[str], None]


class Moved(Conflict):
    """A file is not what the edit was made from: look again, then try again."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of an edit that a crash interrupted."""

    message: str
    paths: tuple[str, ...]
    #: `completed`: committed now; `kept`: it was committed already; `unfinished`: somebody has to look.
    outcome: str
    problem: str | None = None


class TreeEditor:
    """Edits one working tree. Blocking; one edit at a time, here and in other processes."""

    def __init__(self, worktree: WorkTree, journal: Journal, on_step: OnStep = lambda step: None) -> None:
        """`on_step` is told each step of an edit as it is reached."""
        self.worktree = worktree
        self._journal = journal
        self._on_step = on_step
        #: Whether anything was committed since `tidy`.
        self._is_untidy = False

    @contextmanager
    def locked(self, wait_s: float = lock.WAIT_S) -> Iterator[None]:
        """Hold the working tree's lock. Raises RepositoryBusy, RepositoryBlocked, NotWritable."""
        with lock.locked(self.worktree.git_folder, wait_s):
            under_way = self.worktree.under_way()
            if under_way is not None:
                raise RepositoryBlocked(
                    f"{under_way} is under way in {self.worktree.root}: no edit is made before it ends",
                    hint="finish or abort it there, then try again",
                )
            yield

    def carry_out(self, intent: Intent) -> Made | None:
        """Write the files and commit them; None: they were in HEAD already. Under the lock.

        Raises Moved when a file is not what `before` says, CommitRefused, NotWritable, RepositoryError; then
        everything is as it was.
        """
        self.check(intent)
        self._journal.begin(replace(intent, base=self.worktree.head()))
        self._on_step("begun")
        try:
            made = self._write_and_commit(intent)
        except BaseException:
            self._journal.end(intent.id)  # all is undone
            raise
        self._is_untidy = True
        self._end(intent, made)
        self._on_step("ended")
        return made

    def check(self, intent: Intent) -> None:
        """Raise Moved when a file is not what `before` says. Under the lock."""
        for change in intent.changes:
            if _content(self._file(change)) != change.before:
                raise Moved(f"{change.path} changed meanwhile", hint="try again")

    def admit(self, paths: Collection[str]) -> None:
        """Raise OutOfGit where git does not take changes of a file (from the root)."""
        admit(self.worktree, paths)

    def keep(self, paths: Collection[str], message: str) -> Made | None:
        """Commit what is on disk, as whom git's configuration names. Under the lock; raises as `carry_out` does."""
        contents = {path: _content(self.worktree.root / path) for path in paths}
        return self.carry_out(Intent(tuple(Change(path, here, here) for path, here in contents.items()), message))

    def tidy(self) -> None:
        """Have git pack what edits left loose, if it finds that it is time (`gc.auto`), as it does after commits of
        its own: behind our back, unless `gc.autoDetach` says otherwise. Needs no lock. Raises RepositoryError.
        """
        if self._is_untidy:
            self._is_untidy = False
            command.run(self.worktree.root, "gc", "--auto", "--quiet")

    def _end(self, intent: Intent, made: Made | None) -> None:
        """What comes after the commit. It is made, so nothing here can refuse the edit any more."""
        try:
            if made is not None:
                settle(self.worktree, intent.paths, made)
            else:  # HEAD has the same, perhaps with other line ends; the index may not
                renew_index(self.worktree, intent.paths)
        except FnsyncError as exc:
            log.error("git's index is not in step with the last edit, until the next start: %s", exc)
            return
        self._journal.end(intent.id)

    def _write_and_commit(self, intent: Intent) -> Made | None:
        files = self._files(intent)
        try:
            with writing(self.worktree.root):
                for file in files:
                    file.prepare()
                self._on_step("prepared")
                for file in files:
                    file.put()
                _sync_folders(files)
            self._on_step("written")
            made = commit(self.worktree, intent.paths, intent.author, intent.message)
            self._on_step("committed")
        except BaseException:
            for file in reversed(files):
                file.take_back()
            raise
        functions = self.worktree.root / self.worktree.prefix
        for file in files:
            file.clean(functions)
        return made

    # ---- after a crash ----

    def recover(self) -> list[Recovered]:
        """Complete what a crash interrupted. Raises what `locked` raises."""
        given_up = [_given_up(message, paths, folder) for folder, message, paths in self._journal.given_up()]
        intents = list(self._journal.unfinished())
        stale = lock.is_ours(self.worktree.git_folder / "index.lock")
        if not intents and not stale:
            return given_up
        with self.locked():
            remove_leftovers(self.worktree)
            return given_up + [self._recover(intent) for intent in intents]

    def _recover(self, intent: Intent) -> Recovered:
        for change in intent.changes:
            _remove_temporary(self._file(change).parent)
        made = made_after(self.worktree, intent.base, intent.message)
        if made is not None:
            self._settle_made(intent, made)
            return Recovered(intent.message, intent.paths, "kept")
        foreign = [change.path for change in intent.changes if not self._is_known(change)]
        if foreign and not intent.changes_files:
            self._journal.end(intent.id)
            return Recovered(intent.message, intent.paths, "kept")
        if foreign:
            return _given_up(intent.message, intent.paths, self._journal.set_aside(intent), foreign)
        renew_index(self.worktree, intent.paths)
        resumed = tuple(Change(c.path, _content(self._file(c)), c.after) for c in intent.changes)
        try:
            made = self._write_and_commit(replace(intent, changes=resumed))
        except FnsyncError as exc:
            return Recovered(intent.message, intent.paths, "unfinished", f"{exc.message}; the next start tries again")
        self._end(intent, made)
        return Recovered(intent.message, intent.paths, "completed" if made else "kept")

    def _settle_made(self, intent: Intent, made: Made) -> None:
        """The commit was made. What is on disk may be somebody's since then, so the index is as the commit has it."""
        settle(self.worktree, (), made)
        functions = self.worktree.root / self.worktree.prefix
        for file in self._files(intent):
            file.clean(functions)
        self._journal.end(intent.id)

    def _files(self, intent: Intent) -> list[_File]:
        return [_File(self._file(change), change, self.worktree.git_folder) for change in intent.changes]

    def _is_known(self, change: Change) -> bool:
        return _content(self._file(change)) in (change.before, change.after)

    def _file(self, change: Change) -> Path:
        return self.worktree.root / change.path


def _given_up(message: str, paths: tuple[str, ...], folder: Path, foreign: Iterable[str] = ()) -> Recovered:
    changed = ", ".join(foreign) or "a file of it"
    problem = f"{changed} changed since, and stays as it is; what the edit wanted is in {folder} until you remove that"
    return Recovered(message, paths, "unfinished", problem)


class _File:
    """One file under way: new content beside it, put in its place, the old one kept until all is done.

    It is kept in git's folder, where a hook that adds all files does not find it; beside, if that is on another disk.
    """

    def __init__(self, target: Path, change: Change, git_folder: Path) -> None:
        self._target = target
        self._change = change
        token = secrets.token_hex(8)
        self._fresh = target.with_name(f"{TEMPORARY}{token}.new")
        self._old = git_folder / f"{PREFIX}{token}.old"
        if change.before is not None and git_folder.stat().st_dev != target.parent.stat().st_dev:
            self._old = target.with_name(f"{TEMPORARY}{token}.old")
        self._is_put = False
        #: Folders that were made for it, the innermost first.
        self._made: list[Path] = []

    @property
    def folder(self) -> Path:
        return self._target.parent

    def prepare(self) -> None:
        """Everything that takes room on the disk."""
        if self._change.after is None or self._change.after == self._change.before:
            return
        self._make_folders()
        descriptor = os.open(self._fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._change.after)
            if self._change.before is not None:
                os.fchmod(descriptor, self._target.stat().st_mode & 0o7777)
            file.flush()
            os.fsync(descriptor)

    def put(self) -> None:
        if self._change.after == self._change.before:
            return
        if self._change.before is not None:
            os.rename(self._target, self._old) if self._change.after is None else _link(self._target, self._old)
        self._is_put = True
        if self._change.after is not None:
            self._fresh.rename(self._target)

    def take_back(self) -> None:
        """Put the old file in its place again, unless somebody has written it meanwhile."""
        if self._is_put and _content(self._target) == self._change.after:
            try:
                if self._change.before is None:
                    self._target.unlink(missing_ok=True)
                else:
                    self._old.rename(self._target)
            except OSError as exc:
                log.error("%s cannot be put back: %s", self._target, exc)
                return  # what it held is beside it
        for path in (self._fresh, self._old):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        for folder in self._made:
            with suppress(OSError):  # somebody put something into it
                folder.rmdir()

    def clean(self, functions: Path) -> None:
        """The edit is done: forget the old file, and its folder if it was the last one there; the functions folder
        stays."""
        with suppress(OSError):
            self._old.unlink(missing_ok=True)
        if self._change.after is None and self.folder != functions:
            with suppress(OSError):  # not empty
                self.folder.rmdir()

    def _make_folders(self) -> None:
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made = missing


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _link(file: Path, name: Path) -> None:
    """A second name for a file; where there are no hard links, a copy."""
    try:
        os.link(file, name)
    except OSError as exc:
        if exc.errno not in lock.NO_LINKS:
            raise
        name.write_bytes(file.read_bytes())
        name.chmod(file.stat().st_mode & 0o7777)


def _sync_folders(files: Iterable[_File]) -> None:
    for folder in {file.folder for file in files}:
        if folder.exists():
            sync_folder(folder)


def _remove_temporary(folder: Path) -> None:
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            path.unlink()
