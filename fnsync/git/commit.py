"""Commits just the paths it is told, whatever else is staged or changed; for use under the working tree's lock.

    copy of the index, set to HEAD ─ the paths as they are on disk ─► `git commit` (hooks, signing, filters)
    the index itself               ─ the same paths               ─► renamed in; all else in it stays

A crash before `git commit` has moved HEAD leaves nothing but a file `fnsync-….index` in git's folder; after it, an
index that still has the paths as they were, until `settle` or `renew_index`.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fnsync.errors import CommitRefused, OutOfGit, RepositoryError
from fnsync.git import command
from fnsync.git.lock import COMMIT_S, is_running, running, writing
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

#: How long hooks and signing may take, in seconds.
LIMIT_S = COMMIT_S
#: How often a commit is made again because HEAD moved although we hold the lock.
ROUNDS = 3
#: What begins the names of files that a crash may leave in git's folder.
PREFIX = "fnsync-"
#: Commits on a detached HEAD are kept from being collected under refs of this name.
DETACHED = "refs/fnsync/detached"

#: By itself git syncs refs, but not the objects that they name: after a power failure the branch would be broken.
DURABLE = ("-c", "core.fsync=committed")
#: The line ends of what an edit writes are its own; `core.autocrlf` decides what the commit has.
_NOT_SAFE = ("-c", "core.safecrlf=false")
_COMMIT = (
    *DURABLE,
    "-c",
    "i18n.commitEncoding=UTF-8",
    # Not between an edit and its answer.
    "-c",
    "maintenance.auto=false",
    "-c",
    "gc.auto=0",
    "commit",
    "--quiet",
    "--file=-",
    "--cleanup=verbatim",
)
_LAST = (
    *("-c", "log.showRoot=true", "log", "-1", "-z", "--raw", "--no-abbrev", "--no-renames", "--no-color"),
    *("--no-ext-diff", "--no-show-signature", "--format=%H %ct %P"),
)
#: How git's words begin when it cannot sign.
_SIGNING = re.compile(
    r"gpg failed|failed to sign|cannot run gpg|cannot run ssh-keygen|(private|public) key|user\.signingkey",
    re.IGNORECASE,
)
#: A merge, a rebase and the like never get here; these decide whether a commit can be refused by the project itself.
_HOOKS = ("pre-commit", "prepare-commit-msg", "commit-msg")
#: Who commits where git's configuration names nobody.
_UNKNOWN = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "fnsync"), ("EMAIL", "fnsync@localhost"))
}


@dataclass(frozen=True, slots=True)
class Author:
    """Who made an edit."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Made:
    """A commit that was made. `at`: committer's time, seconds since the epoch."""

    commit: CommitId
    parent: CommitId | None
    at: int
    #: Lines for `git update-index --index-info` of each path that it changed.
    entries: Mapping[str, bytes] = field(default_factory=dict)


def commit(worktree: WorkTree, paths: Collection[str], author: Author | None, message: str) -> Made | None:
    """Commit what `paths` (files, from the root) are on disk now; None: they are as in HEAD.

    Without `author` it is whom git's configuration names. Raises CommitRefused with what a hook said,
    RepositoryError, NotWritable.
    """
    for _ in range(ROUNDS):
        base = worktree.head()
        with _index_of(worktree, base) as index:
            variables = {"GIT_INDEX_FILE": str(index)}
            _update(worktree, paths, variables)
            if not _differs(worktree, base, variables):
                return None
            moved = not _commit(worktree, variables | _author(author), message)
        if moved:
            continue
        made = _head(worktree)
        if made.parent == base:
            return made
        _take_back(worktree, made, message)
    raise _head_moved(worktree)


def made_after(worktree: WorkTree, base: CommitId | None, message: str) -> Made | None:
    """The commit with that message that was made on `base` and that HEAD comes from. Raises RepositoryError."""
    head = worktree.head()
    if head in (None, base):
        return None
    assert head is not None
    since = (head,) if base is None else (f"{base}..{head}",)
    _, found = command.run(worktree.root, "log", "-z", "--no-show-signature", "--format=%H %P%n%B", *since, "--")
    subject = message.strip().partition("\n")[0].encode(errors="replace")
    for entry in found.split(b"\0"):
        line, _, said = entry.partition(b"\n")
        commit, *parents = line.decode().split()
        if parents[:1] == ([base] if base else []) and subject in said:  # hooks may have added to it
            return _made(worktree, commit)
    return None


def settle(worktree: WorkTree, made: Made) -> None:
    """What a commit asks for once it is made: the index in step, and a ref where no branch leads to it.

    The index gets what the commit has, and not what is on disk: a hook, or somebody, may have changed that since.
    """
    if made.entries:
        with _renewing(worktree) as variables:
            entries = b"".join(made.entries.values())
            command.run(worktree.root, "update-index", "-z", "--index-info", stdin=entries, variables=variables)
    if worktree.branch() is None:
        _keep(worktree, made)


def keep_content(worktree: WorkTree, content: bytes) -> str:
    """Put a content into the repository, in no commit; git collects it after some weeks. Returns its id."""
    _, output = command.run(worktree.root, "hash-object", "-w", "--stdin", stdin=content)
    return output.decode().strip()


def renew_index(worktree: WorkTree, paths: Collection[str]) -> None:
    """Have the index hold `paths` as they are on disk; nothing else in it changes."""
    with _renewing(worktree) as variables:
        _update(worktree, paths, variables)


@contextmanager
def _renewing(worktree: WorkTree) -> Iterator[dict[str, str]]:
    """A copy of the index for git commands with the variables that are given; it takes its place at the end."""
    index = worktree.git_folder / "index"
    with scratch_index(worktree) as fresh, writing(index.parent):
        if index.exists():
            shutil.copyfile(index, fresh)
        yield {"GIT_INDEX_FILE": str(fresh)}
        fresh.replace(index)


def remove_leftovers(worktree: WorkTree) -> None:
    """Remove what a crash left in git's folder; under the lock. A commit that still runs needs its index."""
    indexes = () if is_running(worktree.git_folder) else (f"{PREFIX}*.index*",)
    for pattern in (*indexes, f"{PREFIX}*.old"):
        for path in worktree.git_folder.glob(pattern):
            path.unlink(missing_ok=True)
    for folder in worktree.git_folder.glob(f"{PREFIX}*.pull"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_index(worktree: WorkTree) -> Iterator[Path]:
    """A name for an index of our own, in git's folder, where what belongs to a split index is found."""
    path = worktree.git_folder / f"{PREFIX}{secrets.token_hex(8)}.index"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _index_of(worktree: WorkTree, base: CommitId | None) -> Iterator[Path]:
    """An index that holds `base`. It begins as a copy, so that git need not look at every file again."""
    with scratch_index(worktree) as index:
        if base is not None:
            current = worktree.git_folder / "index"
            with writing(current.parent):
                if current.exists():
                    shutil.copyfile(current, index)
            variables = {"GIT_INDEX_FILE": str(index)}
            command.run(worktree.root, *_NOT_SAFE, "read-tree", "--reset", base, variables=variables)
        yield index


def _update(worktree: WorkTree, paths: Collection[str], variables: Mapping[str, str]) -> None:
    """Have an index hold `paths` as they are on disk. Raises CommitRefused, OutOfGit, RepositoryError, NotWritable."""
    named = b"".join(os.fsencode(path) + b"\0" for path in paths)
    line = (*DURABLE, *_NOT_SAFE, "update-index", "--add", "--remove", "-z", "--stdin")
    done = command.attempt(worktree.root, *line, stdin=named, variables=variables)
    if "as both a file and as a directory" in done.said:
        raise OutOfGit(f"git cannot hold the file: {done.said}", hint="what is in a submodule is committed there")
    if done.code:
        raise command.failure(worktree.root, line, done)


def _differs(worktree: WorkTree, base: CommitId | None, variables: Mapping[str, str]) -> bool:
    if base is None:
        return True
    options = ("--cached", "--quiet", base, "--")
    code, _ = command.run(worktree.root, "diff-index", *options, allowed=(0, 1), variables=variables)
    return code == 1


def _commit(worktree: WorkTree, variables: Mapping[str, str], message: str) -> bool:
    """Run `git commit`; false: HEAD moved while it ran. Raises CommitRefused, RepositoryError, NotWritable."""
    done = _try_commit(worktree, variables, message)
    if done.code and not _knows_committer(worktree):
        done = _try_commit(worktree, {**_UNKNOWN, **variables}, message)
    if done.code == 0 or "cannot lock ref 'HEAD'" in done.said:
        return done.code == 0
    if _SIGNING.search(done.said):
        raise CommitRefused(
            f"the commit cannot be signed: {done.said}",
            hint="see `git config --get-regexp 'gpg|sign'` in the repository, as the server's user",
        )
    if done.code == 1 and has_hooks(worktree):
        raise CommitRefused(
            f"the repository's hooks refuse the commit: {done.said or 'without a word'}",
            hint="the hook decides what may be committed; see `git config core.hooksPath` and .git/hooks",
        )
    raise command.failure(worktree.root, ("commit",), done)


def _try_commit(worktree: WorkTree, variables: Mapping[str, str], message: str) -> command.Done:
    text = message.encode(errors="replace")
    with running(worktree.git_folder) as keep:
        try:
            return command.attempt(
                worktree.root, *_COMMIT, stdin=text, variables=variables, hooks=True, limit_s=LIMIT_S, keep=keep
            )
        except command.TookTooLong as exc:
            raise CommitRefused(exc.message, hint=exc.hint) from exc


def _knows_committer(worktree: WorkTree) -> bool:
    return command.attempt(worktree.root, "var", "GIT_COMMITTER_IDENT").code == 0


def has_hooks(worktree: WorkTree) -> bool:
    """Whether the repository has hooks that may look at a commit before it is made."""
    done = command.attempt(worktree.root, "rev-parse", "--git-path", "hooks", hooks=True)
    folder = worktree.root / os.fsdecode(done.output.strip())
    return any(os.access(folder / name, os.X_OK) for name in _HOOKS)


def _author(author: Author | None) -> dict[str, str]:
    if author is None:
        return {}
    name, email = _plain(author.name), _plain(author.email)
    return {"GIT_AUTHOR_NAME": name or email or "unknown", "GIT_AUTHOR_EMAIL": email or "unknown@localhost"}


def _plain(text: str) -> str:
    """The text as it can stand in an author line; git itself would refuse what is left empty by its own cleaning."""
    kept = "".join(" " if char in "<>\n\r\0" or not char.isprintable() else char for char in text)
    return kept.encode(errors="replace").decode().strip(" .,:;\"'\\")


def _head(worktree: WorkTree) -> Made:
    return _made(worktree, "HEAD")


def _made(worktree: WorkTree, named: str) -> Made:
    _, found = command.run(worktree.root, *_LAST, named)
    head, _, changes = found.partition(b"\0")
    commit, at, *parents = head.decode().split()
    fields = iter(changes.lstrip(b"\n").split(b"\0"))
    entries = {}
    for raw in fields:
        if raw:
            _, mode, _, blob, _ = raw[1:].split(b" ")
            name = next(fields)
            entries[os.fsdecode(name)] = b"%s %s\t%s\0" % (mode, blob, name)
    return Made(CommitId(commit), CommitId(parents[0]) if parents else None, int(at), entries)


def _take_back(worktree: WorkTree, made: Made, message: str) -> None:
    """HEAD moved, without the lock, while we committed: our commit would undo that. Take it off again."""
    _, found = command.run(worktree.root, "log", "-1", "--no-show-signature", "--format=%B", made.commit)
    if made.parent is None or message.strip() not in found.decode(errors="replace"):
        raise _head_moved(worktree)
    command.run(worktree.root, "update-ref", "-m", "fnsync: HEAD had moved", "HEAD", made.parent, made.commit)


def _head_moved(worktree: WorkTree) -> RepositoryError:
    return RepositoryError(f"HEAD of {worktree.root} moved while an edit was committed", hint="try again")


def _keep(worktree: WorkTree, made: Made) -> None:
    """Keep a commit that no branch leads to; the one before it is kept by it."""
    lines = f"update {DETACHED}/{made.commit} {made.commit}\n"
    if made.parent is not None and _is_kept(worktree, made.parent):
        lines += f"delete {DETACHED}/{made.parent}\n"
    command.run(worktree.root, "update-ref", "--stdin", stdin=lines.encode())


def _is_kept(worktree: WorkTree, commit: CommitId) -> bool:
    return command.attempt(worktree.root, "show-ref", "--verify", "--quiet", f"{DETACHED}/{commit}").code == 0
