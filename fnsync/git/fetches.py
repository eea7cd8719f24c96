"""One fetch into a mirror's repository: what is meant, what is here, what has to come, and what that means."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fnsync.errors import FetchFailed, FnsyncError, NotWritable
from fnsync.git import bare, command, refnames
from fnsync.git.refnames import Target
from fnsync.git.semver import range_of
from fnsync.git.transfer import Remote, reason_of
from fnsync.model import CommitId

#: Where a commit that is followed was at the last fetch, by a hash of what was asked for.
_ASKED = bare.OURS + "asked/"
#: How far back the last commit is looked for, before the history counts as rewritten. Asking for all history instead
#: would bring it all with the first merge of an older branch.
_BACK = (20, 1000)
#: Mistakes of old programs that do no harm; histories are full of them.
_FORGIVEN = (
    "missingSpaceBeforeDate",
    "badTimezone",
    "zeroPaddedFilemode",
    "missingSpaceBeforeEmail",
    "missingTaggerEntry",
)
_FETCH = (
    *(part for name in _FORGIVEN for part in ("-c", f"fetch.fsck.{name}=ignore")),
    *("-c", "fetch.fsckObjects=true"),
    # Packs are written beside and renamed in, whole; what is fetched lies where its size is watched.
    *("-c", "fetch.unpackLimit=1"),
    *("-c", "fetch.writeCommitGraph=false"),
    *("-c", "core.bigFileThreshold=16m"),
)
#: Refs that have the same name here; others might mean something to git.
_NAMED_ALIKE = ("refs/heads/", "refs/tags/", "refs/pull/", "refs/merge-requests/")
_QUIET = ("--no-tags", "--no-prune", "--no-recurse-submodules", "--no-auto-gc")
_EVERYTHING = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_NOT_OFFERED = ("not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref")
_PLAIN = ("does not support shallow", "dumb http transport", "does not support filter")


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """How a source is mirrored."""

    #: How many commits are fetched at first; 0: all.
    depth: int = 1
    #: Whether contents are fetched only when they are needed.
    partial: bool = True
    #: Whether submodules are part of what is materialized, and contents that Git LFS keeps.
    submodules: bool = False
    lfs: bool = False
    timeout_s: float = 120.0
    #: The most that one fetch may bring.
    max_bytes: int = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch came to."""

    commit: CommitId
    #: The full name at the remote, or the hash.
    ref: str
    tag: str | None


class Unusable(Exception):
    """The mirror has to be made anew, because of `error`; `plain`: by a remote that can only send everything."""

    def __init__(self, error: FnsyncError, *, plain: bool = False, object_format: str | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.plain = plain
        self.object_format = object_format


class Fetch:
    """What one fetch does in a mirror, be it the one that there is or one that is being made."""

    def __init__(self, place: Path, remote: Remote, options: MirrorOptions, plain: bool) -> None:
        self._place = place
        self._remote = remote
        self._depth = 0 if plain else options.depth
        self._is_partial = options.partial and not plain and bare.can_be_partial()

    def run(self, ref: str | None) -> Fetched:
        """Bring what a ref is at the remote. Raises Unusable beside what `Mirror.fetch` does."""
        here = bare.refs(self._place)
        target = self._target(ref)
        local, asked = _local(target.ref), _ASKED + sha256((ref or "").encode()).hexdigest()[:16]
        before, last = here.get(local), here.get(asked)
        since = None if last is None else last.commit
        found = self._found(target, before)
        lines = []
        if found is None:
            found = self._bring(target, since or (None if before is None else before.commit), bool(here))
            lines += [f"update {local} {found.id}", f"delete {bare.INCOMING}"]
        commit = found.commit
        if since != commit:
            lines.append(f"update {asked} {commit}")
        bare.update(self._place, lines)
        return Fetched(commit, target.ref, target.tag)

    def ensure(self, commit: CommitId) -> None:
        """Have a commit here, whatever it was fetched as. Raises as `run`."""
        if not bare.is_held(self._place, commit):
            self.run(commit)

    def provide(self, ids: Collection[str]) -> None:
        """Get contents that a partial mirror has left out, all at once. Raises as `run`."""
        if not bare.is_partial(self._place):
            return
        # What is here tells nothing about what is missing, so nothing is to be negotiated.
        options = (*_FETCH, *bare.PROMISED, "-c", "fetch.negotiationAlgorithm=noop")
        line = ("fetch", *_QUIET, "--no-write-fetch-head", "--filter=blob:none", "--progress", "--stdin")
        asked = "".join(f"{id}\n" for id in ids).encode()
        done = self._remote.run(self._place, *options, *line, self._remote.NAME, stdin=asked)
        if not done.code:
            return
        what = "contents cannot be fetched"
        if any(said in done.said for said in _NOT_OFFERED):
            raise Unusable(self._remote.failure(what, done), plain=True)
        raise self._failure(what, done)

    # ---- what is meant -------------------------------------------------------------------------------------

    def _found(self, target: Target, before: bare.Ref | None) -> bare.Ref | None:
        """What a target is, if that is here already."""
        if refnames.is_commit(target.ref):
            commit = CommitId(target.ref)
            return bare.Ref(target.ref, commit) if bare.is_held(self._place, commit) else None
        same = before is not None and before.id == target.id
        return before if same and before is not None and bare.look(self._place, before.commit) != [None] else None

    def _target(self, ref: str | None) -> Target:
        """What a ref is at the remote now. Raises FetchFailed."""
        if ref is not None and refnames.is_commit(ref):
            return Target(ref, ref)
        there, head = self._ask(*refnames.asked(ref))
        target = refnames.choose(ref, there, head)
        if target is None and ref is not None and refnames.may_be_commit(ref):
            target = self._beginning(ref)
        if target is not None:
            return target
        raise self._unknown(ref)

    def _ask(self, *patterns: str) -> tuple[dict[str, str], str | None]:
        if patterns == ():
            patterns = (refnames.BRANCHES + "*", refnames.TAGS + "*")
        self._tell("asking the remote")
        done = self._remote.run(self._place, "ls-remote", "--symref", self._remote.NAME, *patterns)
        if done.code:
            error = self._remote.failure("nothing can be fetched", done)
            raise Unusable(error) if "bad config" in done.said or "not a git repo" in done.said.lower() else error
        there, head = bare.parse_remote(done.output)
        if any(len(id) == 64 for id in there.values()) and not self._is_sha256():
            raise Unusable(FetchFailed(f"{self._remote.shown} has hashes of another kind"), object_format="sha256")
        return there, head

    def _is_sha256(self) -> bool:
        return "sha256" in (self._place / "config").read_text()

    def _beginning(self, ref: str) -> Target | None:
        """The commit whose hash begins so: a tip, one that is here, or else one of all that the remote has."""
        there, _ = self._ask()
        target = refnames.beginning(ref, there)
        found = [None] if target is not None else bare.look(self._place, ref.lower())
        if target is None and found == [None]:
            self._transfer(_EVERYTHING, None)
            found = bare.look(self._place, ref.lower())
        return target if found[0] is None else Target(found[0], found[0])

    def _unknown(self, ref: str | None) -> FetchFailed:
        shown = self._remote.shown
        there, _ = self._ask()
        names = refnames.near(ref or "", there)
        hint = f"there is {', '.join(names)}" if names else "it has neither branches nor tags yet"
        if ref is None:
            return FetchFailed(f"{shown} has no default branch", reason="unknown_ref", hint=hint)
        what = "no tag in the range" if range_of(ref) is not None else "no branch, tag or commit"
        return FetchFailed(f"{shown} has {what} {ref}", reason="unknown_ref", hint=hint)

    # ---- what comes ------------------------------------------------------------------------------------------

    def _bring(self, target: Target, since: CommitId | None, is_old: bool) -> bare.Ref:
        """Fetch a target, and as much of what was before it as tells what became of `since`."""
        kept, past = bare.packs(self._place), bare.shallow(self._place)
        try:
            *short, last = self._depths(since, is_old, bool(past))
            for depth in short:
                found = self._fetch_target(target, depth)
                if since is not None and self._leads_to(since, found.commit):
                    return found
            return self._fetch_target(target, last)
        except BaseException:
            self._undo(kept, past)
            raise
        return found

    def _depths(self, since: CommitId | None, is_old: bool, is_shallow: bool) -> tuple[int | None, ...]:
        """The depths to try; None: without limit."""
        depth = self._depth
        if not depth or (is_old and not is_shallow):
            return (None,)
        return (depth,) if since is None else (max(depth, _BACK[0]), max(depth, _BACK[1]))

    def _fetch_target(self, target: Target, depth: int | None) -> bare.Ref:
        """Fetch a target to the incoming ref."""
        is_there = self._transfer((f"+{target.ref}:{bare.INCOMING}",), depth)
        if not is_there and refnames.is_commit(target.ref):  # not a tip, and the server gives nothing else
            self._transfer(_EVERYTHING, None)
            is_there = bare.look(self._place, target.ref) != [None]
            bare.update(self._place, [f"update {bare.INCOMING} {target.ref}"] if is_there else [])
        if not is_there:
            raise self._unknown(target.ref)
        found = bare.refs(self._place).get(bare.INCOMING)
        if found is None:
            raise FetchFailed(f"{target.ref} of {self._remote.shown} is no commit", reason="unknown_ref")
        return found

    def _transfer(self, refspecs: Collection[str], depth: int | None) -> bool:
        """Fetch; returns whether the remote has such refs. Raises as `run`."""
        is_promised = self._is_partial or bare.is_partial(self._place)
        line = [*(bare.PROMISED if is_promised else ()), "fetch", *_QUIET, "--force", "--update-shallow", "--progress"]
        line += ["--no-write-fetch-head"] if bare.can_be_partial() else []
        line += [] if depth is None else [f"--depth={depth}"]
        line += ["--filter=blob:none"] if self._is_partial else ["--no-filter"]
        done = self._remote.run(self._place, *_FETCH, *line, self._remote.NAME, *refspecs)
        if not done.code:
            return True
        if any(said in done.said for said in _NOT_OFFERED):
            return False
        if any(said in done.said for said in _PLAIN):
            raise Unusable(self._remote.failure("nothing can be fetched", done), plain=True)
        names = ", ".join(refspec.partition(":")[0].lstrip("+") for refspec in refspecs)
        raise self._failure(f"{names} cannot be fetched", done)

    def _failure(self, what: str, done: command.Done) -> Exception:
        """Why a fetch failed: because of the remote, or because of what is here."""
        error = self._remote.failure(what, done)
        if isinstance(error, NotWritable):
            return error
        told_of = reason_of(done.said)
        if told_of is None or not bare.is_sound(self._place, self._remote):
            return Unusable(error)
        return error

    def _undo(self, kept: frozenset[str], past: bytes) -> None:
        """Take away what a fetch brought that came to nothing; no ref but the incoming one names it."""
        for name in bare.packs(self._place) - kept:
            (self._place / "objects" / "pack" / name).unlink(missing_ok=True)
        (self._place / bare.INCOMING).unlink(missing_ok=True)
        bare.sweep(self._place)
        if bare.shallow(self._place) != past:
            (self._place / "shallow").write_bytes(past)

    def _leads_to(self, old: CommitId, new: CommitId) -> bool:
        """Whether `old` is in the history of `new`, as far as that is here."""
        return command.attempt(self._place, "--git-dir=.", "merge-base", "--is-ancestor", old, new).code == 0

    def _tell(self, phase: str) -> None:
        if self._remote.on_progress is not None:
            self._remote.on_progress(phase, None)


def _local(ref: str) -> str:
    """What a ref of the remote is called here."""
    if refnames.is_commit(ref):
        return bare.COMMITS + ref
    return ref if ref.startswith(_NAMED_ALIKE) else f"{bare.OURS}other/{ref}"
