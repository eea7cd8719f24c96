"""The git working tree that the functions folder lies in.

What is asked often (head, branch, lock) is read from git's own files, which takes microseconds; a git process
takes milliseconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal, Self

from fnsync.errors import RepositoryError
from fnsync.git import command
from fnsync.git.scope import Scope
from fnsync.model import CommitId

#: Symbolic refs that point to symbolic refs; git follows as many.
MAX_REF_DEPTH = 5
#: What HEAD names in a repository that keeps its refs in another form than files.
_NO_FILES = "refs/heads/.invalid"
#: What lies in git's folder while something waits for its end, and what that is.
_UNDER_WAY = (
    ("MERGE_HEAD", "a merge"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("sequencer", "a cherry-pick or revert"),
    ("BISECT_LOG", "a bisect"),
)
#: How a file differs from HEAD; `staged`: in one way in the index, and in another on disk.
State = Literal["changed", "staged", "untracked", "unmerged"]
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class WorkTree(Scope):
    """A working tree; `root` is where its `.git` lies. Every method sees the repository as it is at that moment."""

    def __init__(self, root: Path, functions: Path) -> None:
        """Use `WorkTree.ensure`. Both are absolute and resolved; `functions` lies in `root`."""
        super().__init__(root, functions.relative_to(root).as_posix())

    @classmethod
    def ensure(cls, functions: Path, project: Path | None = None) -> WorkTree:
        """The working tree around `functions`; if there is none, one is made in `project` (default: its parent).

        Raises RepositoryError.
        """
        found = cls.around(functions)
        if found is not None:
            return found
        functions = functions.resolve()
        project = functions.parent if project is None else project.resolve()
        if not functions.is_relative_to(project):  # the functions folder is a link to somewhere else
            project = functions.parent
        command.run(project, "init", "--quiet")
        return cls(project, functions)

    @classmethod
    def around(cls, functions: Path) -> WorkTree | None:
        """The working tree that `functions` lies in, if there is one. Raises RepositoryError."""
        functions = functions.resolve()
        folders = (folder for folder in (functions, *functions.parents) if _git_folder(folder) is not None)
        return next((cls(folder, functions) for folder in folders), None)

    def head(self) -> CommitId | None:
        """The commit that is checked out; None: nothing has been committed yet."""
        git, name = self.git_folder, "HEAD"
        for _ in range(MAX_REF_DEPTH):
            target = _read_ref(git, name)
            if target is None or _HASH.fullmatch(target):
                return None if target is None else CommitId(target)
            name = target.removeprefix("ref:").strip()
            if name == _NO_FILES:
                code, found = command.run(self.root, "rev-parse", "--verify", "--quiet", "HEAD", allowed=(0, 1))
                return None if code else CommitId(found.decode().strip())
        raise RepositoryError(f"HEAD of {self.root} leads nowhere", hint=f"see what `git -C '{self.root}' fsck` says")

    @property
    def has_ref_files(self) -> bool:
        """Whether the repository keeps its refs in files that `ref` reads."""
        return _read_ref(self.git_folder, "HEAD") != f"ref: {_NO_FILES}"

    def ref(self, name: str) -> str | None:
        """The object that a ref names, by its full name or `HEAD`, from git's files; None: there is no such ref."""
        git = self.git_folder
        for _ in range(MAX_REF_DEPTH):
            target = _read_ref(git, name)
            if target is None or _HASH.fullmatch(target):
                return target
            name = target.removeprefix("ref:").strip()
            if not name.startswith("refs/"):
                return None
        return None

    def branch(self) -> str | None:
        """The branch that is checked out; None: HEAD is detached."""
        target = _read_ref(self.git_folder, "HEAD")
        if target is None or not target.startswith("ref:"):
            return None
        name = target.removeprefix("ref:").strip()
        if name == _NO_FILES:
            code, found = command.run(self.root, "symbolic-ref", "--quiet", "HEAD", allowed=(0, 1))
            if code:
                return None
            name = os.fsdecode(found).strip()
        return name.removeprefix("refs/heads/")

    def locked(self) -> bool:
        """Whether git is changing the index, and so probably the working tree."""
        git = _git_folder(self.root)
        return git is not None and os.path.lexists(git / "index.lock")

    def dirty(self) -> tuple[str, ...]:
        """What differs from HEAD in the functions folder, untracked files too; relative to it, sorted."""
        _, found = command.run(
            self.root, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", self.pathspec
        )
        paths = (os.fsdecode(entry[3:]) for entry in found.split(b"\0") if entry)
        return tuple(sorted(self.inside(path) for path in paths))

    def under_way(self) -> str | None:
        """What git has begun here and not ended: `a merge`, `a rebase`, …; None: nothing."""
        git = self.git_folder
        return next((what for name, what in _UNDER_WAY if os.path.lexists(git / name)), None)

    def uncommitted(self, paths: Collection[str]) -> dict[str, State]:
        """Which of `paths` (files, from `root`) differ from HEAD, on disk or staged, and how."""
        if not paths:
            return {}
        options = ("--porcelain=v2", "-z", "--untracked-files=all", "--ignored=matching", "--no-renames")
        specs = (f":(literal){path}" for path in paths)
        _, found = command.run(self.root, "status", *options, "--", *specs)
        states: dict[str, State] = {}
        for name, state in _states(found.split(b"\0")):
            # A folder that git does not look into is told as a whole.
            states |= {path: state for path in paths if path == name or (name[-1:] == "/" and path.startswith(name))}
        return states

    def ignored(self) -> bool:
        """Whether the repository ignores the functions folder, so that no function in it has a history."""
        code, _ = command.run(self.root, "check-ignore", "--quiet", "--", self.prefix, allowed=(0, 1))
        return code == 0

    def of(self, functions: Path) -> Self:
        """The same working tree, seen from where `functions` leads now; it may be a link that was turned."""
        return type(self)(self.root, functions.resolve())

    @property
    def git_folder(self) -> Path:
        """Git's own folder of this working tree. Raises RepositoryError when it is gone."""
        git = _git_folder(self.root)
        if git is None:
            raise RepositoryError(f"{self.root} is no git repository any more", hint="restart to have one made there")
        return git


def _states(entries: Iterable[bytes]) -> Iterator[tuple[str, State]]:
    """Path and state of each entry of `status --porcelain=v2 -z --no-renames`."""
    for entry in entries:
        form, _, rest = entry.partition(b" ")
        if form in (b"?", b"!"):
            yield os.fsdecode(rest), "untracked"
        elif form == b"u":
            yield os.fsdecode(rest.split(b" ", 9)[-1]), "unmerged"
        elif form == b"1":
            staged, on_disk = rest[:1], rest[1:2]
            both = staged != b"." and on_disk != b"."
            yield os.fsdecode(rest.split(b" ", 7)[-1]), "staged" if both else "changed"


def _git_folder(folder: Path) -> Path | None:
    """The `.git` folder of a working tree, or what the `.git` file of a linked one or a submodule names."""
    git = folder / ".git"
    try:
        text = os.fsdecode(git.read_bytes())
    except IsADirectoryError:
        return git if os.path.lexists(git / "HEAD") else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise RepositoryError(f"cannot read {git}: {exc.strerror}", hint="see that the server may read it") from exc
    if not text.startswith("gitdir:"):
        return None
    return folder / text.removeprefix("gitdir:").strip()


def _read_ref(git: Path, name: str) -> str | None:
    """What a ref says: a hash, or `ref: <name>`; None: it does not exist."""
    text = _read(git / name)
    if text is None and (common := _common(git)) != git:
        text = _read(common / name)
    return _packed(_common(git), name) if text is None else text.strip()


def _common(git: Path) -> Path:
    """The folder with what all working trees of a repository share."""
    text = _read(git / "commondir")
    return git if text is None else git / text.strip()


def _packed(common: Path, name: str) -> str | None:
    text = _read(common / "packed-refs")
    found = None if text is None else re.search(rf"^(\S+) {re.escape(name)}$", text, re.MULTILINE)
    return None if found is None else found[1]


def _read(path: Path) -> str | None:
    try:
        return os.fsdecode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as exc:
        raise RepositoryError(f"cannot read {path}: {exc.strerror}", hint="see that the server may read it") from exc
