"""Edits that go to a branch of their own, pushed for review; the working tree stays as it is.

The commit is made in a linked working tree below the data folder, in which only the edit's files are written (all of
them, if the repository has hooks that may want to look). A crash leaves that folder, and at most a branch that was
not pushed; `clean` removes the folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from fnsync.errors import Conflict, FnsyncError
from fnsync.git import command
from fnsync.git.commit import Author, commit, has_hooks
from fnsync.git.lock import writing
from fnsync.git.remote import redacted
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

#: How long a push may take, in seconds.
PUSH_S = 60.0
#: What names of branches begin with.
PREFIX = "fnsync/"

#: `user@host:path`, the short form of an ssh address.
_SCP = re.compile(r"(?:[^@/]+@)?([^/:]+):(?!//)(.+)")


@dataclass(frozen=True, slots=True)
class Proposal:
    """An edit on a branch."""

    branch: str
    commit: CommitId
    #: Whether the remote has it.
    pushed: bool
    #: Where a pull request can be opened; None: the remote's host is not one that is known.
    compare_url: str | None = None
    #: Why it was not pushed.
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where proposals go: the remote's name, the branch they are made from (None: the one checked out), and a folder
    for the linked working trees."""

    remote: str
    branch: str | None
    folder: Path


def propose(
    worktree: WorkTree, target: Target, changes: Mapping[str, bytes | None], name: str, author: Author, message: str
) -> Proposal | None:
    """Commit `changes` (path from the root -> content, None: gone) to a new branch and push it.

    The branch is `fnsync/<name>-<commit>`. None: nothing differs from the branch it would be made from. A push that
    fails leaves the branch here, and says why. Raises CommitRefused, Conflict (no such branch, or another
    content there), RepositoryError, NotWritable.
    """
    base, branch = _base(worktree, target)
    _check_same(worktree, base, branch, changes)
    with _linked(worktree, target.folder, base) as linked:
        _write(linked, changes)
        made = commit(linked, list(changes), author, message)
    if made is None:
        return None
    proposed = f"{PREFIX}{name}-{made.commit[:8]}"
    command.run(worktree.root, "branch", "--force", "--no-track", proposed, made.commit)
    address = _address(worktree, target.remote)
    if address is None:
        missing = f"there is no remote {target.remote}; the branch is in this repository only"
        return Proposal(proposed, made.commit, False, None, missing)
    problem = _push(worktree, target.remote, proposed)
    return Proposal(proposed, made.commit, problem is None, compare_url(address, branch, proposed), problem)


def clean(worktree: WorkTree, folder: Path) -> None:
    """Remove what a crash left; for a start."""
    if folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        command.run(worktree.root, "worktree", "prune")


def _base(worktree: WorkTree, target: Target) -> tuple[CommitId, str]:
    """The commit that a proposal is made from, and its branch."""
    branch = worktree.branch()
    head = worktree.head()
    if target.branch in (None, branch):
        if head is None:
            raise Conflict(f"{worktree.root} has no commit yet to make a branch from", hint="commit something first")
        return head, branch or "HEAD"
    assert target.branch is not None
    for name in (f"refs/heads/{target.branch}", f"refs/remotes/{target.remote}/{target.branch}"):
        code, found = command.run(worktree.root, "rev-parse", "--verify", "--quiet", name, allowed=(0, 1))
        if code == 0:
            return CommitId(found.decode().strip()), target.branch
    raise Conflict(f"there is no branch {target.branch} to make one from", hint="see repository.branch in fnsync.yaml")


def _check_same(worktree: WorkTree, base: CommitId, branch: str, paths: Collection[str]) -> None:
    """The edit was made from what is on disk: raise Conflict if the branch has something else there."""
    if base == worktree.head():
        return
    specs = (f":(literal){path}" for path in paths)
    _, found = command.run(worktree.root, "diff", "--name-only", "-z", "--no-renames", base, "--", *specs)
    if found:
        names = ", ".join(sorted(os.fsdecode(name) for name in found.split(b"\0") if name))
        raise Conflict(
            f"{names}: the branch {branch} has something else than what is served, so the edit does not fit there",
            hint=f"check out {branch} where functions are served, or set repository.branch to what is checked out",
        )


@contextmanager
def _linked(worktree: WorkTree, folder: Path, base: CommitId) -> Iterator[WorkTree]:
    place = folder / secrets.token_hex(8)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    command.run(worktree.root, "worktree", "add", "--quiet", "--detach", "--no-checkout", str(place), base)
    try:
        linked = WorkTree(place.resolve(), place.resolve() / worktree.prefix)
        command.run(linked.root, *(("reset", "--quiet", "--hard") if has_hooks(linked) else ("read-tree", "HEAD")))
        yield linked
    finally:
        command.attempt(worktree.root, "worktree", "remove", "--force", str(place))
        shutil.rmtree(place, ignore_errors=True)


def _write(linked: WorkTree, changes: Mapping[str, bytes | None]) -> None:
    with writing(linked.root):
        for path, content in changes.items():
            file = linked.root / path
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)


def _address(worktree: WorkTree, remote: str) -> str | None:
    done = command.attempt(worktree.root, "remote", "get-url", "--push", "--", remote)
    return None if done.code else done.output.decode(errors="replace").strip()


def _push(worktree: WorkTree, remote: str, branch: str) -> str | None:
    """Push a branch; returns why that failed."""
    reference = f"refs/heads/{branch}:refs/heads/{branch}"
    try:
        done = command.attempt(worktree.root, "push", "--quiet", "--", remote, reference, hooks=True, limit_s=PUSH_S)
    except FnsyncError as exc:
        return exc.message
    return None if done.code == 0 else f"the push failed: {redacted(done.said) or 'without a word'}"


def compare_url(address: str, base: str, branch: str) -> str | None:
    """Where the host of a remote lets one open a pull request from `branch` to `base`; None: not a host we know."""
    host, path = _parsed(address)
    if not host or not path:
        return None
    project = f"https://{host}/{path}"
    source, target = quote(branch), quote(base)
    names = host.split(":")[0].lower().split(".")
    if "gitlab" in names:
        query = f"merge_request%5Bsource_branch%5D={quote(branch, safe='')}"
        return f"{project}/-/merge_requests/new?{query}&merge_request%5Btarget_branch%5D={quote(base, safe='')}"
    if "bitbucket" in names:
        return f"{project}/pull-requests/new?source={quote(branch, safe='')}&dest={quote(base, safe='')}"
    if {"github", "gitea", "forgejo", "codeberg"} & set(names):
        return f"{project}/compare/{target}...{source}"
    return None


def _parsed(address: str) -> tuple[str, str]:
    """Host and path of a remote's address, without user, password and `.git`."""
    if "://" in address:
        parts = urlsplit(address)
        # A port of ssh is none of the web page's.
        keeps_port = parts.scheme in ("http", "https") and parts.port
        host = f"{parts.hostname}:{parts.port}" if keeps_port else parts.hostname or ""
        path = parts.path if parts.scheme in ("http", "https", "ssh", "git") else ""
    elif match := _SCP.fullmatch(address):
        host, path = match[1], match[2]
    else:
        return "", ""
    return host, quote(path.strip("/").removesuffix(".git"))
