"""What people write for a ref, and what is meant: a branch, a tag, a range of versions, `pr/12`, a commit. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fnsync.git.semver import newest, range_of

HEAD = "HEAD"
BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
#: What a remote says an annotated tag stands for comes under the tag's name with this behind it.
PEELED = "^{}"
#: How many names are told of where one is not found.
_TOLD = 5

_PULL = re.compile(r"(?:pr|mr)/(\d{1,9})")
#: GitHub's and Gitea's name for a pull request, and GitLab's.
_PULLS = ("refs/pull/{}/head", "refs/merge-requests/{}/head")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SHORT = re.compile(r"[0-9a-f]{4,63}", re.IGNORECASE)
#: What no ref's name has; git would take some of it for patterns.
_NEVER = re.compile(r"[\0-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.lock$|\.$")


@dataclass(frozen=True, slots=True)
class Target:
    """What a ref has come to at the remote."""

    #: The full name there, or a commit's hash.
    ref: str
    #: The object that it names there, which for an annotated tag is no commit.
    id: str
    tag: str | None = None


def is_commit(ref: str) -> bool:
    """Whether it is a whole hash, which is no name of anything else."""
    return _COMMIT.fullmatch(ref) is not None


def may_be_commit(ref: str) -> bool:
    """Whether it may be the beginning of a hash."""
    return _SHORT.fullmatch(ref) is not None


def candidates(ref: str) -> tuple[str, ...]:
    """The full names that are meant, the first that exists above all; none for a range of versions."""
    if ref.startswith("refs/"):
        return (ref,) if not _NEVER.search(ref) else ()
    if ref == HEAD:
        return (HEAD,)
    if _NEVER.search(ref) or ref.startswith("-"):
        return ()
    pull = _PULL.fullmatch(ref)
    pulls = tuple(name.format(pull[1]) for name in _PULLS) if pull else ()
    return (*pulls, BRANCHES + ref, TAGS + ref)


def asked(ref: str | None) -> tuple[str, ...]:
    """What a remote is to be asked for, as patterns of `git ls-remote`."""
    if ref is None or ref == HEAD:
        return (HEAD,)
    names = candidates(ref)
    if range_of(ref) is not None:
        return (*names, TAGS + "*")
    return (*names, *(name + PEELED for name in names if name.startswith(TAGS)))


def choose(ref: str | None, there: Mapping[str, str], head: str | None = None) -> Target | None:
    """What is meant among what a remote has (full name -> object); `head`: the branch that its HEAD is.

    Commits are no names, so they are not looked for.
    """
    if ref is None or ref == HEAD:
        return Target(head or HEAD, there[HEAD]) if HEAD in there else None
    for name in candidates(ref):
        if name in there:
            return Target(name, there[name], name.removeprefix(TAGS) if name.startswith(TAGS) else None)
    range = range_of(ref)
    tags = (name.removeprefix(TAGS) for name in there if name.startswith(TAGS) and not name.endswith(PEELED))
    tag = newest(tags, range) if range is not None else None
    return None if tag is None else Target(TAGS + tag, there[TAGS + tag], tag)


def beginning(ref: str, there: Mapping[str, str]) -> Target | None:
    """The one commit among what a remote has whose hash begins so."""
    peeled = {name.removesuffix(PEELED) for name in there if name.endswith(PEELED)}
    found = {commit for name, commit in there.items() if commit.startswith(ref.lower()) and name not in peeled}
    return Target(*found, *found) if len(found) == 1 else None


def near(ref: str, names: Iterable[str]) -> list[str]:
    """The branches and tags whose names are like one that is not there; else those that there are, at first."""
    shown = sorted({_short(name) for name in names if not name.endswith(PEELED) and _short(name) != name})
    like = difflib.get_close_matches(ref, shown, _TOLD, 0.6)
    return like or shown[:_TOLD]


def _short(name: str) -> str:
    return name.removeprefix(BRANCHES).removeprefix(TAGS)
