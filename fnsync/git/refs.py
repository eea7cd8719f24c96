"""Which commit a name means: a branch, a tag, a commit's hash, `pr/N`, `HEAD`.

Names come from whoever calls. Only names and hashes are taken, none of git's expressions, and none reaches git as an
option. A name of a branch is looked up in git's own files, which takes microseconds, so that a branch that moved is
seen at once; what a hash or a tag object means never changes, and is remembered.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from fnsync.errors import NotFound, UnknownRef
from fnsync.git import command, remote, versions
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId

MOST_CHARS = 200
#: The fewest digits of a hash that count as one.
LEAST_DIGITS = 7
#: How long one fetch of a pull request may take, in seconds.
FETCH_S = 30.0
#: How many hashes and tags are remembered.
KEPT = 4_096
#: How many names of refs are looked through for those that are like an unknown one.
LOOKED_THROUGH = 5_000

_HASH = re.compile(rf"[0-9a-fA-F]{{{LEAST_DIGITS},64}}")
_WHOLE = (40, 64)
_PULL = re.compile(r"pr/([1-9][0-9]{0,8})")
#: What no name of a ref has (`git check-ref-format`), and all that git's expressions are made of.
_BAD = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[-./]|[./]$|^@$")
#: Where hosts keep what a pull request is made of, GitHub's and Gitea's first.
_HEADS = ("refs/pull/{}/head", "refs/merge-requests/{}/head")
#: Where `git fetch` is commonly told to put that.
_FETCHED = ("pr/{}", "pull/{}/head", "pull/{}", "merge-requests/{}/head", "merge-requests/{}", "mr/{}")
_SHORT = re.compile(r"refs/(?:heads|tags|remotes/[^/]+)/(?!HEAD$)(.+)")
#: A repository that lacks objects is not to fetch them because somebody names a hash.
_AS_IT_IS = {"GIT_NO_LAZY_FETCH": "1"}


def resolve(worktree: WorkTree, text: str, remote: str = "origin") -> CommitId:
    """The commit that `text` means here. Raises UnknownRef, RepositoryError.

    In this order: a whole hash; `HEAD`; a ref by its full name; `pr/N`; a branch; a branch of a remote, with or without
    the remote's name, those of `remote` first; a tag; a hash of 7 digits or more. Nothing is fetched.
    """
    shown = check(text)
    is_hash = _HASH.fullmatch(text) is not None
    found = None if is_hash and len(text) in _WHOLE else _read(worktree, tuple(_places(text, remote)))
    if found is None and is_hash:
        return _of_hash(worktree, text)
    found = found or _elsewhere(worktree, text)
    if found is None:
        raise UnknownRef(f"there is no branch, tag or commit {shown} in this repository", hint=_near(worktree, text))
    commit = _peeled(worktree.root, found)
    if commit is None:
        raise UnknownRef(f"{shown} names no commit, or one that this repository does not have")
    return commit


def check(text: str) -> str:
    """Raise UnknownRef for a text that can be no name of a ref; returns it as it may be shown."""
    shown = repr(text[: versions.SHOWN_CHARS])
    if not text or len(text) > MOST_CHARS or _BAD.search(text) or not text.isprintable():
        raise UnknownRef(
            f"{shown} is no name of a branch, tag or commit",
            hint="only names and hashes are taken, none of git's expressions, such as HEAD~3",
        )
    return shown


def pull_number(text: str) -> int | None:
    """The number of the pull request that `pr/N` means; None: the text is something else."""
    found = _PULL.fullmatch(text)
    return None if found is None else int(found[1])


def fetch_pr(worktree: WorkTree, remote_name: str, number: int, on_start: remote.OnStart | None = None) -> CommitId:
    """Fetch what a pull request is now, so that `resolve` finds `pr/N`. Raises UnknownRef, FetchFailed, PullRefused.

    Takes up to a minute; the working tree and its branches stay as they are.
    """
    target = _ours(remote_name, number)
    for head in _HEADS:
        try:
            return remote.fetch_ref(worktree, remote_name, head.format(number), target, FETCH_S, on_start)
        except remote.NoSuchRef:
            continue
    raise UnknownRef(
        f"{remote_name} has no pull request 'pr/{number}'",
        hint="it may have been removed, or its host keeps none where git can fetch them",
    )


# ---- where a name may stand ----------------------------------------------------------------------------------


def _places(text: str, remote: str) -> Iterator[str]:
    """The refs that a name may mean, those that count first."""
    if text == "HEAD" or text.startswith("refs/"):
        yield text
        return
    number = pull_number(text)
    if number is not None:
        yield from (form.format(number) for form in _HEADS)
        yield from (f"refs/remotes/{remote}/{form.format(number)}" for form in _FETCHED)
        yield _ours(remote, number)
    yield f"refs/heads/{text}"
    yield f"refs/remotes/{text}"
    yield f"refs/remotes/{remote}/{text}"
    yield f"refs/tags/{text}"


def _ours(remote: str, number: int) -> str:
    """Where `fetch_pr` puts a pull request: not among the remote's branches, which `git fetch --prune` clears."""
    return f"refs/fnsync/{remote}/pr/{number}"


def _read(worktree: WorkTree, names: tuple[str, ...]) -> str | None:
    """The object of the first ref that there is."""
    if worktree.has_ref_files:
        return next((found for name in names if (found := worktree.ref(name)) is not None), None)
    listing = ("for-each-ref", "--format=%(refname) %(objectname)", "--", *names)
    _, output = command.run(worktree.root, *listing)
    lines = os.fsdecode(output).splitlines()
    there = {name: object for name, _, object in (line.partition(" ") for line in lines)}
    if "HEAD" in names:
        there["HEAD"] = worktree.head() or ""
    return next((there[name] for name in names if there.get(name)), None)


def _elsewhere(worktree: WorkTree, text: str) -> str | None:
    """The branch of that name of the only other remote that has one, or of several that agree. Raises UnknownRef."""
    if text.startswith("refs/") or text == "HEAD":
        return None
    listing = ("for-each-ref", "--format=%(objectname)%00%(refname)", "--", f"refs/remotes/*/{text}")
    _, output = command.run(worktree.root, *listing)
    found = [line.split("\0", 1) for line in os.fsdecode(output).splitlines()]
    if len({object for object, _ in found}) > 1:
        names = ", ".join(name.removeprefix("refs/remotes/") for _, name in found)
        raise UnknownRef(f"{text!r} is ambiguous: several remotes have a branch of that name", hint=f"say one: {names}")
    return found[0][0] if found else None


# ---- what stands there ---------------------------------------------------------------------------------------


@lru_cache(KEPT)
def _peeled(root: Path, object: str) -> CommitId | None:
    """The commit of an object that a ref names: itself, or what a tag is of; None: it is something else."""
    line = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{object}^{{commit}}")
    code, output = command.run(root, *line, allowed=(0, 1, 128), variables=_AS_IT_IS)
    return None if code else CommitId(output.decode().strip())


def _of_hash(worktree: WorkTree, text: str) -> CommitId:
    try:
        return _remembered(worktree.root, worktree.prefix, text.lower())
    except NotFound as exc:
        raise UnknownRef(exc.message, hint=exc.hint or _near(worktree, text)) from exc


@lru_cache(KEPT)
def _remembered(root: Path, prefix: str, text: str) -> CommitId:
    """What a hash names; who pinned something by it goes on getting the same."""
    return versions.resolve(WorkTree(root, root / prefix), text)


def _near(worktree: WorkTree, text: str) -> str | None:
    """Names that are like an unknown one."""
    wanted = ("refs/heads", "refs/tags", "refs/remotes")
    line = ("for-each-ref", f"--count={LOOKED_THROUGH}", "--sort=-committerdate", "--format=%(refname)", "--", *wanted)
    _, output = command.run(worktree.root, *line, variables=_AS_IT_IS)
    matches = (_SHORT.fullmatch(name) for name in output.decode(errors="replace").splitlines())
    names = list(dict.fromkeys(match[1] for match in matches if match))
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.6)
    if near:
        return f"there is {', '.join(near)}"
    return "what a remote has is known after a fetch: git fetch, or fnsync sync"
