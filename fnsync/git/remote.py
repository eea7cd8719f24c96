"""The remote that a working tree follows: what it is, what it has, and how far apart the two are.

Credentials are git's own business (its configuration, helpers, ssh); none of an address gets out of here.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fnsync.errors import FetchFailed, FnsyncError, NotWritable, PullRefused
from fnsync.git import command
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

#: How long a fetch may take, in seconds.
FETCH_S = 120.0
#: How many commits are told of one by one.
TOLD = 100
#: Nobody is there to answer a window that asks for a passphrase.
SILENT = {"SSH_ASKPASS_REQUIRE": "never", "SSH_ASKPASS": "", "GCM_INTERACTIVE": "never"}
#: How git marks commits at which it stopped.
_LEFT_OUT = "-"
_USER = re.compile(r"(\w+://)[^/\s]*@")
_QUERY = re.compile(r"(\w+://[^\s?'\"]*)\?[^\s'\"]*")

OnStart = Callable[["subprocess.Popen[bytes]"], None]


@dataclass(frozen=True, slots=True)
class Distance:
    """How many commits are here only, and there only."""

    ahead: int
    behind: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as it is told to people."""

    commit: CommitId
    author: str
    #: Epoch seconds of the commit.
    at: int
    subject: str


def tracking(remote: str, branch: str) -> str:
    """The ref that keeps what a branch of the remote was at the last fetch."""
    return f"refs/remotes/{remote}/{branch}"


def address(worktree: WorkTree, remote: str, *options: str) -> str | None:
    """The remote's address as git uses it, credentials and all; None: there is no such remote.

    `options`: `--push` for where it is pushed to.
    """
    done = command.attempt(worktree.root, "remote", "get-url", *options, "--", remote)
    lines = os.fsdecode(done.output).splitlines()
    return lines[0].strip() if done.code == 0 and lines else None


class NoSuchRef(FetchFailed):
    """The remote answers, and does not have what was asked for."""


def fetch(worktree: WorkTree, remote: str, branch: str, on_start: OnStart | None = None) -> CommitId:
    """Fetch a branch; returns its commit. `on_start` gets the process. Raises FetchFailed, PullRefused,
    NotWritable.

    The working tree and its branches stay as they are. Needs no lock.
    """
    return fetch_ref(worktree, remote, f"refs/heads/{branch}", tracking(remote, branch), FETCH_S, on_start)


def fetch_ref(
    worktree: WorkTree, remote: str, ref: str, target: str, limit_s: float, on_start: OnStart | None = None
) -> CommitId:
    """As `fetch`, any ref of the remote (a full name) into one of ours. Raises also NoSuchRef."""
    url = address(worktree, remote)
    if url is None:
        raise no_remote(worktree, remote)
    line = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", remote, f"+{ref}:{target}")
    try:
        done = command.attempt(worktree.root, *line, variables=SILENT, limit_s=limit_s, on_start=on_start)
    except command.TookTooLong as exc:
        raise FetchFailed(
            f"{remote} did not deliver {_short(ref)} within {limit_s:g} s",
            hint="see whether it can be reached from here",
        ) from exc
    if done.code:
        raise _failure(worktree, remote, ref, url, done)
    _, found = command.run(worktree.root, "rev-parse", "--verify", "--quiet", f"{target}^{{commit}}")
    return CommitId(found.decode().strip())


def no_remote(worktree: WorkTree, remote: str) -> PullRefused:
    """What is told where there is no remote of that name."""
    return PullRefused(
        f"there is no remote {remote} in {worktree.root}",
        hint=f"git remote add {remote} URL; or name another one in repository.remote",
    )


def distance(worktree: WorkTree, tracked: str) -> Distance:
    """Between HEAD and a ref or commit. Raises RepositoryError."""
    _, found = command.run(worktree.root, "rev-list", "--left-right", "--count", f"HEAD...{tracked}", "--")
    ahead, behind = found.split()
    return Distance(int(ahead), int(behind))


def between(worktree: WorkTree, base: CommitId, target: CommitId) -> tuple[Commit, ...]:
    """The newest commits that `target` has and `base` has not, newest first. Raises RepositoryError."""
    return log(worktree.root, f"--max-count={TOLD}", f"{base}..{target}")


def log(repository: Path, *which: str) -> tuple[Commit, ...]:
    """Commits as they are told, newest first. Raises RepositoryError."""
    return marked_log(repository, *which)[0]


def marked_log(repository: Path, *which: str) -> tuple[tuple[Commit, ...], frozenset[CommitId]]:
    """The same; with `--boundary`, also the commits that are left out where those that are told of begin."""
    # The numbers first: a name may hold what separates.
    line = ("log", "-z", "--no-show-signature", "--format=%m%H%x1f%ct%x1f%an%x1f%s", *which, "--")
    _, found = command.run(repository, *line)
    commits, reached = [], []
    for entry in filter(None, found.split(b"\0")):
        commit, at, author, subject = entry.decode(errors="replace").split("\x1f", 3)
        id = CommitId(commit[1:])
        if commit[0] == _LEFT_OUT:
            reached.append(id)
        else:
            commits.append(Commit(id, _plain(author), int(at) if at.isdecimal() else 0, _plain(subject)))
    return tuple(commits), frozenset(reached)


def _plain(text: str) -> str:
    """A text without what terminals obey."""
    return "".join(char if char.isprintable() else " " for char in text)


def redacted(text: str, url: str | None = None) -> str:
    """A text without what is secret in its addresses: users, passwords, queries. Of `url` not even without the rest."""
    shown = _QUERY.sub(r"\1", _USER.sub(r"\1", text))
    for secret in sorted(_secrets(url), key=len, reverse=True):
        shown = shown.replace(secret, "***")
    return shown


def _secrets(url: str | None) -> set[str]:
    """What in an address is not to be shown, as it is written and as it is meant."""
    if url is None or "://" not in url:
        return set()
    user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    # A user without a password may be a token; `git` is what every ssh address has.
    named = {password} if password else {user} - {"git"}
    return {text for one in named for text in (one, unquote(one)) if text}


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/")


def _failure(worktree: WorkTree, remote: str, ref: str, url: str, done: command.Done) -> FnsyncError:
    said = redacted(done.said, url) or f"git ended with exit code {done.code}"
    shown, name = redacted(url, url), _short(ref)
    if "couldn't find remote ref" in said:
        what = "branch " if name != ref else ""
        return NoSuchRef(f"{shown} has no {what}{name}", hint="push it there, or see repository.branch")
    foreseen = command.failure(worktree.root, ("fetch",), command.Done(done.code, b"", said))
    if isinstance(foreseen, NotWritable):
        return foreseen
    return FetchFailed(
        f"{name} cannot be fetched from {shown}: {said}",
        hint=f"see what `git -C '{worktree.root}' fetch {remote}` says, as the server's user",
    )
