"""Pushes commits to the remote that a working tree follows. Nothing that the remote has is ever overwritten.

The repository's `pre-push` hook runs, as with any push. Credentials are git's own business, as in git.remote.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from fnsync.errors import NotWritable, PushFailed, PushRefused
from fnsync.git import command
from fnsync.git.remote import SILENT, OnStart, address, no_remote, redacted, tracking
from fnsync.git.trailers import KEPT, USER
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

#: How long a push may take, the hook included, in seconds.
PUSH_S = 120.0

_PUSH = ("push", "--porcelain", "--no-follow-tags", "--recurse-submodules=no", "--no-force-with-lease")
#: Why a branch is not taken that has moved on since it was fetched; or another push was faster by a moment.
_FETCH_FIRST = ("(fetch first)", "(non-fast-forward)")
_FASTER = ("(failed to update ref)", "cannot lock ref", "reference already exists")
#: A line in the message of a commit that was made for the API.
_OURS = f"^({USER}|{KEPT}):"


def push(
    worktree: WorkTree, remote: str, branches: Mapping[str, CommitId], on_start: OnStart | None = None
) -> dict[str, str | None]:
    """Push commits to branches; returns for each what the remote said against it, None: it has it now.

    Raises PushFailed, PushRefused by a hook, NotWritable; `moved_on` tells what a refusal is about. Needs no lock.
    """
    url = address(worktree, remote, "--push")
    if url is None:
        raise no_remote(worktree, remote)
    line = (*_PUSH, "--", remote, *(f"{commit}:refs/heads/{branch}" for branch, commit in branches.items()))
    try:
        done = command.attempt(worktree.root, *line, variables=SILENT, hooks=True, limit_s=PUSH_S, on_start=on_start)
    except command.TookTooLong as exc:
        raise PushFailed(
            f"{remote} did not take what was pushed within {PUSH_S:g} s",
            hint="see whether it can be reached from here, and what the repository's pre-push hook waits for",
        ) from exc
    said = redacted(done.said, url)
    answers = _answers(os.fsdecode(done.output))
    if not branches.keys() <= answers.keys():
        raise _failure(worktree, remote, url, command.Done(done.code, b"", said))
    words = _words(said)
    found = {branch: None if (problem := answers[branch]) is None else problem + words for branch in branches}
    _remember(worktree, remote, {branch: commit for branch, commit in branches.items() if found[branch] is None})
    return found


def pending(worktree: WorkTree, remote: str, branch: str, head: CommitId) -> int:
    """How many commits up to `head` the branch of the remote lacks, as far as is known; 0 as long as none is of the
    API: a person's own are theirs to push, unless one of the API builds on them. Raises RepositoryError."""
    ref = tracking(remote, branch)
    code, _ = command.run(worktree.root, "rev-parse", "--verify", "--quiet", ref, allowed=(0, 1))
    new = head if code else f"{ref}..{head}"
    _, found = command.run(worktree.root, "log", "-1", "-E", f"--grep={_OURS}", "--format=%H", new, "--")
    if not found.strip():
        return 0
    _, count = command.run(worktree.root, "rev-list", "--count", new, "--")
    return int(count)


def moved_on(problem: str) -> bool:
    """Whether a branch was not taken because it has moved on at the remote."""
    return any(reason in problem for reason in (*_FETCH_FIRST, *_FASTER))


def _answers(output: str) -> dict[str, str | None]:
    """Branch -> what is wrong with it, of `push --porcelain`."""
    found: dict[str, str | None] = {}
    for line in output.splitlines():
        flag, _, rest = line.partition("\t")
        names, tab, summary = rest.partition("\t")
        if tab and len(flag) == 1:
            found[names.partition(":")[2].removeprefix("refs/heads/")] = summary if flag == "!" else None
    return found


def _words(said: str) -> str:
    """What the remote itself said, in one line."""
    lines = [line.removeprefix("remote:").strip() for line in said.splitlines() if line.startswith("remote:")]
    return "".join(f": {text}" for text in ["; ".join(line for line in lines if line)] if text)


def _remember(worktree: WorkTree, remote: str, taken: Mapping[str, CommitId]) -> None:
    """Git does so by itself where the remote is set up as usual."""
    lines = "".join(f"update {tracking(remote, branch)} {commit}\n" for branch, commit in taken.items())
    if lines:
        command.run(worktree.root, "update-ref", "-m", "fnsync: push", "--stdin", stdin=lines.encode())


def _failure(worktree: WorkTree, remote: str, url: str, done: command.Done) -> PushFailed | NotWritable:
    said = done.said or f"git ended with exit code {done.code}"
    if done.code == 1:  # git itself had nothing against it
        return PushRefused(
            f"the repository's pre-push hook refuses the push: {said}",
            hint="the hook decides what may be pushed; see `git config core.hooksPath` and .git/hooks",
        )
    foreseen = command.failure(worktree.root, ("push",), done)
    if isinstance(foreseen, NotWritable):
        return foreseen
    return PushFailed(
        f"cannot push to {redacted(url, url)}: {said}",
        hint=f"see what `git -C '{worktree.root}' push {remote}` says, as the server's user",
    )
