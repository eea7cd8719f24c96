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

import errno
import logging
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fnsync.errors import Conflict, FnsyncError, RepositoryBlocked
from fnsync.git import command, lock, moving
from fnsync.git.admission import admit
from fnsync.git.commit import PREFIX, Made, commit, keep_content, made_after, remove_leftovers, renew_index, settle
from fnsync.git.forward import resume
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
        #: What became of edits that a crash interrupted, once `recover` was done.
        self.recovered: tuple[Recovered, ...] | None = None

    @contextmanager
    def locked(self, wait_s: float = lock.WAIT_S) -> Iterator[None]:
        """Hold the working tree's lock, with nothing left to recover. Raises RepositoryBusy, RepositoryBlocked,
        NotWritable."""
        with lock.locked(self.worktree.git_folder, wait_s):
            under_way = self.worktree.under_way()
            if under_way is not None:
                raise RepositoryBlocked(
                    f"{under_way} is under way in {self.worktree.root}: no edit is made before it ends",
                    hint="finish or abort it there, then try again",
                )
            if self.recovered is None:
                self.recovered = tuple(self._recover_all())
            yield

    def carry_out(self, intent: Intent) -> Made | None:
        """Write the files and commit them; None: they were in HEAD already. Under the lock.

        Raises Moved when a file is not what `before` says, CommitRefused, NotWritable, RepositoryError; then
        everything is as it was.
        """
        self.check(intent)
        self._journal.begin(replace(intent, base=self.worktree.head(), branch=self.worktree.branch()))
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
                settle(self.worktree, made)
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
                self._keep_found(file)
                file.take_back()
            raise
        functions = self.worktree.root / self.worktree.prefix
        for file in files:
            file.clean(functions)
        return made

    # ---- after a crash ----

    def recover(self) -> tuple[Recovered, ...]:
        """Complete what a crash interrupted. Raises what `locked` raises; then the next edit tries first."""
        is_cut_off = moving.unfinished(self.worktree) is not None or any(self._journal.unfinished())
        if not is_cut_off and not lock.is_ours(self.worktree.git_folder / "index.lock"):
            self.recovered = tuple(self._given_up())
        else:
            with self.locked():
                pass
        return self.recovered or ()

    def _recover_all(self) -> list[Recovered]:
        given_up = list(self._given_up())
        remove_leftovers(self.worktree)
        edits = [self._recover(intent) for intent in self._journal.unfinished()]
        return given_up + edits + list(self._resumed())

    def _resumed(self) -> Iterator[Recovered]:
        """A pull that was cut off while it moved the tree."""
        try:
            found = resume(self.worktree)
        except FnsyncError as exc:
            yield Recovered("Pull", (), "unfinished", f"{exc.message}; the next start tries again")
            return
        if found is not None:
            yield Recovered(f"Pull to {found.target[:12]}", found.paths, "completed")

    def _given_up(self) -> Iterator[Recovered]:
        """Those that were set aside before."""
        for folder, message, paths in self._journal.given_up():
            yield _set_aside(message, paths, folder, "a file of it changed")

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
            return self._give_up(intent, f"{', '.join(foreign)} changed")
        if intent.branch != self.worktree.branch():
            return self._give_up(intent, f"another branch than {intent.branch or 'a detached HEAD'} was checked out")
        renew_index(self.worktree, intent.paths)
        resumed = tuple(Change(c.path, _content(self._file(c)), c.after) for c in intent.changes)
        try:
            made = self._write_and_commit(replace(intent, changes=resumed))
        except FnsyncError as exc:
            return Recovered(intent.message, intent.paths, "unfinished", f"{exc.message}; the next start tries again")
        self._end(intent, made)
        return Recovered(intent.message, intent.paths, "completed" if made else "kept")

    def _give_up(self, intent: Intent, why: str) -> Recovered:
        return _set_aside(intent.message, intent.paths, self._journal.set_aside(intent), why)

    def _settle_made(self, intent: Intent, made: Made) -> None:
        """The commit was made. What is on disk may be somebody's since then, so the index is as the commit has it."""
        if self.worktree.head() == made.commit:
            settle(self.worktree, made)
        functions = self.worktree.root / self.worktree.prefix
        for file in self._files(intent):
            file.clean(functions)
        self._journal.end(intent.id)

    def _files(self, intent: Intent) -> list[_File]:
        return [_File(self._file(change), change, self.worktree.git_folder) for change in intent.changes]

    def _keep_found(self, file: _File) -> None:
        """What a hook, or somebody, made of a file meanwhile is overwritten when the edit is taken back."""
        found = file.found()
        if found is not None:
            kept = keep_content(self.worktree, found)
            log.warning("what %s held when an edit was taken back: git cat-file -p %s", file.target, kept)

    def _is_known(self, change: Change) -> bool:
        return _content(self._file(change)) in (change.before, change.after)

    def _file(self, change: Change) -> Path:
        return self.worktree.root / change.path


def _set_aside(message: str, paths: tuple[str, ...], folder: Path, why: str) -> Recovered:
    problem = f"{why} since, and that stays as it is; what the edit wanted is in {folder} until you remove that"
    return Recovered(message, paths, "unfinished", problem)


class _File:
    """One file under way: new content beside it, put in its place, the old one kept until all is done.

    It is kept in git's folder, where a hook that adds all files does not find it. Where that is on another disk it is
    not kept: then it is written anew when it is needed again.
    """

    def __init__(self, target: Path, change: Change, git_folder: Path) -> None:
        self.target = target
        self._change = change
        token = secrets.token_hex(8)
        self._fresh = target.with_name(f"{TEMPORARY}{token}.new")
        self._old = git_folder / f"{PREFIX}{token}.old"
        self._is_put = False
        self._mode: int | None = None
        #: Folders that were made for it, the innermost first.
        self._made: list[Path] = []

    @property
    def folder(self) -> Path:
        return self.target.parent

    def prepare(self) -> None:
        """Everything that takes room on the disk."""
        change = self._change
        if change.after == change.before:
            return
        if change.before is not None:
            self._mode = self.target.stat().st_mode & 0o7777
        if change.after is not None:
            self._make_folders()
            self._write(change.after)

    def put(self) -> None:
        if self._change.after == self._change.before:
            return
        if self._change.before is not None:
            self._link_old()
        self._is_put = True
        if self._change.after is not None:
            self._fresh.rename(self.target)
        else:
            self.target.unlink()

    def found(self) -> bytes | None:
        """What is there that is neither the old content nor the new one."""
        content = _content(self.target) if self._is_put else None
        return None if content in (self._change.before, self._change.after) else content

    def take_back(self) -> None:
        """Put the old file in its place again, whatever is there: a hook may have changed it before it refused."""
        try:
            if self._is_put and self._change.before is None:
                self.target.unlink(missing_ok=True)
            elif self._is_put and self._old.exists():
                self._old.rename(self.target)
            elif self._is_put and self._change.before is not None:
                self._write(self._change.before)
                self._fresh.rename(self.target)
        except OSError as exc:
            log.error("%s cannot be put back: %s", self.target, exc)
            return  # what it held is in the journal, and perhaps in git's folder
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

    def _write(self, content: bytes) -> None:
        descriptor = os.open(self._fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if self._mode is not None:
                os.fchmod(descriptor, self._mode)
            file.flush()
            os.fsync(descriptor)

    def _link_old(self) -> None:
        """A second name for the old file, if that costs nothing."""
        try:
            os.link(self.target, self._old)
        except OSError as exc:
            if exc.errno not in (*lock.NO_LINKS, errno.EXDEV):
                raise

    def _make_folders(self) -> None:
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made = missing


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _sync_folders(files: Iterable[_File]) -> None:
    for folder in {file.folder for file in files}:
        if folder.exists():
            sync_folder(folder)


def _remove_temporary(folder: Path) -> None:
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            path.unlink()
