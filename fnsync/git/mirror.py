"""The mirror of a source: a bare repository that holds what its commits need, and can always be made anew.

    <folder>                  the mirror; its refs are named as at the remote
    <folder>.lock             held by whoever fetches, and by the git that does it
    .tmp-mirror-…             beside it: a mirror that is being made, or was replaced
    mirror-modules/…/         beside it: mirrors of its submodules

By default little is fetched: at first one commit without its past, later what came since, and contents only when they
are to be materialized. A mirror that proves broken is made anew beside and renamed in; what was materialized stays.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from fnsync.errors import FetchFailed, NotWritable, RepositoryError, SourceRefused
from fnsync.git import bare, command, lfs, refnames, submodules
from fnsync.git.access import GitAccess
from fnsync.git.fetches import Fetch, Fetched, MirrorOptions, Unusable
from fnsync.git.materialize import Finish, Made, Materialized, materialize
from fnsync.git.passage import Passage, passage
from fnsync.git.remote import Commit, log
from fnsync.git.selection import Selection, TreeLimits, changed, moves_submodules
from fnsync.git.transfer import OPEN, Bounds, OnProgress, Remote, Stopper
from fnsync.model import CommitId

__all__ = ["Fetched", "Mirror", "MirrorOptions"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Mirror:
    """One mirror. Blocking; safe from any thread: fetches take turns."""

    def __init__(
        self,
        folder: Path,
        url: str,
        selection: Selection,
        options: MirrorOptions = MirrorOptions(),  # noqa: B008
    ) -> None:
        """Nothing is read or written yet. A relative path in `url` counts from where the process is."""
        self.folder = folder
        self.url = _absolute(url)
        self.selection = selection
        self.options = options
        self._turn = threading.RLock()
        self._stopper = Stopper()
        #: The URLs of what it is a submodule of, from the source down.
        self._around: tuple[str, ...] = ()

    # ---- from the remote -----------------------------------------------------------------------------------

    def fetch(self, ref: str | None, access: GitAccess = OPEN, on_progress: OnProgress | None = None) -> Fetched:
        """Bring what a ref is at the remote now; an unchanged remote costs one connection, a commit that is here none.

        `ref`: branch, tag, full ref, commit, range of versions, `pr/12`; None: the remote's HEAD. Raises FetchFailed
        with its reason, SourceRefused for more than `max_bytes`, RepositoryBusy, NotWritable, Draining after `stop`;
        then the mirror is as it was.
        """
        with self._remote(access, on_progress) as remote:
            return self._healing(remote, lambda place: self._fetch(place, remote).run(ref))

    def materialize(
        self,
        commit: CommitId,
        target: Path,
        limits: TreeLimits = TreeLimits(),  # noqa: B008 - immutable
        access: GitAccess = OPEN,
        beside: tuple[CommitId, Path] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Materialized:
        """Put the selected files of a commit into a folder, as `fnsync.git.materialize`; fetches what is missing.

        Raises what that and `fetch` raise.
        """
        if target.is_dir():
            return materialize(self.folder, commit, target, self.selection, limits)
        with self._remote(access, on_progress) as remote:

            def work(place: Path) -> Materialized:
                fetch = self._fetch(place, remote)
                fetch.ensure(commit)
                finish = self._finisher(place, commit, remote, fetch, beside)
                try:
                    return materialize(
                        place,
                        commit,
                        target,
                        self.selection,
                        limits,
                        beside=beside,
                        provide=fetch.provide,
                        finish=finish,
                    )
                except RepositoryError as exc:
                    raise Unusable(exc) from exc

            return self._healing(remote, work)

    def stop(self) -> None:
        """End a fetch that runs, and have none begin any more; from any thread."""
        self._stopper.stop()

    # ---- what is here --------------------------------------------------------------------------------------

    def commit(self, id: CommitId) -> Commit:
        """A commit that is here. Raises RepositoryError."""
        return log(self.folder, "--max-count=1", id)[0]

    def changed(self, old: CommitId, new: CommitId) -> frozenset[str] | None:
        """The selected paths in which two commits differ, removed ones too; relative to the selection's folder.

        None: that cannot be told, because one of them is not here any more, or a submodule is at another commit.
        """
        if self.options.submodules and moves_submodules(self.folder, old, new, self.selection):
            return None
        found = changed(self.folder, old, new, self.selection)
        return None if found is None else frozenset(path for path in found if self.selection.has(path))

    def passage(self, old: CommitId, new: CommitId) -> Passage:
        """What lies between two commits that are here. Raises RepositoryError."""
        return passage(self.folder, old, new)

    def resolve(self, ref: str) -> CommitId | None:
        """The commit that a ref means here, as of the last fetches; None: it is not here. Raises RepositoryError."""
        if bare.marker(self.folder, self.url) is None:
            return None
        names = [ref.lower()] if refnames.may_be_commit(ref) else []
        found = bare.look(self.folder, *refnames.candidates(ref), *names)
        return next((commit for commit in found if commit is not None), None)

    # ---- clean-up ------------------------------------------------------------------------------------------

    def tidy(self, keep: Collection[CommitId]) -> None:
        """Drop all that belongs to none of these commits, and put the rest together; for now and then.

        Raises RepositoryError, RepositoryBusy, NotWritable, FetchFailed when it takes too long.
        """
        with self._remote(OPEN, None, sys.maxsize) as remote:
            if bare.marker(self.folder, self.url) is None:
                return
            bare.sweep(self.folder)
            here = [id for id, found in zip(keep, bare.look(self.folder, *keep), strict=True) if found is not None]
            lines = [f"update {bare.COMMITS}{id} {id}" for id in here]
            gone = [name for name, ref in bare.refs(self.folder).items() if ref.commit not in here]
            bare.update(self.folder, [*lines, *(f"delete {name}" for name in gone)])
            try:
                bare.put_together(self.folder, remote, here)
            except OSError as exc:
                raise _not_writable(self.folder, exc) from exc

    # ---- what lies outside of the repository -----------------------------------------------------------------

    def _finisher(
        self, place: Path, commit: CommitId, remote: Remote, fetch: Fetch, beside: tuple[CommitId, Path] | None
    ) -> Finish:
        """What adds submodules and the contents of Git LFS, where they are wanted."""

        def finish(made: Made) -> tuple[int, int]:
            files = bytes_ = 0
            if self.options.lfs:
                bytes_ += lfs.expand(place, remote, made.folder, made.fresh, made.left)
            if not self.options.submodules or not made.listing.submodules:
                return files, bytes_
            found = submodules.addresses_at(place, commit, fetch.provide)
            for path, id in self._counted(made.listing.submodules, commit).items():
                left = TreeLimits(made.left.files - files, made.left.bytes - bytes_)
                old = None if beside is None else (self._linked(place, beside[0], path), beside[1] / path)
                sub = self._submodule(path, found)
                with _told_of(path):
                    done = sub.materialize(
                        id,
                        made.folder / path,
                        left,
                        remote.access,
                        None if old is None or old[0] is None else (old[0], old[1]),
                        remote.on_progress,
                    )
                files, bytes_ = files + done.files, bytes_ + done.bytes
            return files, bytes_

        return finish

    def _counted(self, found: Mapping[str, CommitId], commit: CommitId) -> Mapping[str, CommitId]:
        if len(found) > submodules.MOST or len(self._around) >= submodules.MOST_LEVELS:
            raise SourceRefused(
                f"{commit[:12]} has more than {submodules.MOST} submodules, or has them more than "
                f"{submodules.MOST_LEVELS} deep"
            )
        return found

    def _submodule(self, path: str, found: Mapping[str, str]) -> Mirror:
        """The mirror of a submodule, by its path below the selection's folder. Raises SourceRefused."""
        whole = os.path.normpath(os.path.join(self.selection.path, path))
        if whole not in found:
            raise SourceRefused(f"the submodule {whole} has no URL in .gitmodules")
        url = submodules.resolved(found[whole], self.url)
        around = (*self._around, self.url)
        if url in around:
            raise SourceRefused(f"the submodule {whole} has itself as a submodule")
        top = self.folder.parent if not self._around else self.folder.parent.parent.parent
        folder = top / "mirror-modules" / sha256(url.encode()).hexdigest()[:24] / "mirror"
        mirror = Mirror(folder, url, self.selection.of_submodule(path), self.options)
        mirror._stopper, mirror._around = self._stopper, around
        return mirror

    def _linked(self, place: Path, commit: CommitId, path: str) -> CommitId | None:
        """The commit of a submodule in an earlier commit; None: there was none."""
        tree = self.selection.tree(commit)
        done = command.attempt(place, "ls-tree", "-z", "--full-tree", tree, "--", path)
        about = done.output.partition(b"\t")[0].decode().split()
        return CommitId(about[2]) if about[1:2] == ["commit"] else None

    # ---- in turn, and again where it is broken ---------------------------------------------------------------

    @contextmanager
    def _remote(
        self, access: GitAccess, on_progress: OnProgress | None, max_bytes: int | None = None
    ) -> Iterator[Remote]:
        """The remote, for the time of one fetch, with the mirror held."""
        limit_s = self.options.timeout_s
        with ExitStack() as stack:
            stack.enter_context(self._turn)
            self._stopper.check()
            bounds = Bounds(time.monotonic() + limit_s, limit_s, max_bytes or self.options.max_bytes)
            try:
                hold = stack.enter_context(bare.held(self.folder.with_name(self.folder.name + ".lock"), limit_s))
            except OSError as exc:
                raise _not_writable(self.folder, exc) from exc
            yield Remote(self.url, access, bounds, self._stopper, hold.descriptor, on_progress, hold.note)

    def _healing(self, remote: Remote, work: Callable[[Path], T]) -> T:
        """Do something with the mirror; if it is none, or proves broken, with one that is made anew, once."""
        try:
            broken: Unusable | None = None
            bare.sweep_beside(self.folder)
            bare.sweep(self.folder)
            if bare.marker(self.folder, self.url) is not None:
                try:
                    return work(self.folder)
                except Unusable as exc:
                    _log.warning("the mirror %s is made anew: %s", self.folder, exc.error.message)
                    broken = exc
                except RepositoryError as exc:
                    _log.warning("the mirror %s is broken, and made anew: %s", self.folder, exc.message)
            try:
                return self._anew(work, broken)
            except Unusable as exc:
                if not exc.plain and exc.object_format is None:
                    raise exc.error from exc
                return self._anew(work, exc)
        except Unusable as exc:
            raise exc.error from exc
        except OSError as exc:
            raise _not_writable(self.folder, exc) from exc

    def _anew(self, work: Callable[[Path], T], broken: Unusable | None) -> T:
        plain = broken is not None and broken.plain
        fresh = bare.create(
            self.folder.parent,
            self.url,
            plain=plain,
            object_format=None if broken is None else broken.object_format,
        )
        try:
            done = work(fresh)
            bare.replace(self.folder, fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return done

    def _fetch(self, place: Path, remote: Remote) -> Fetch:
        found = bare.marker(place, self.url)
        return Fetch(place, remote, self.options, found is not None and found.plain)


@contextmanager
def _told_of(path: str) -> Iterator[None]:
    """Says of failures that they are a submodule's."""
    try:
        yield
    except FetchFailed as exc:
        raise FetchFailed(f"submodule {path}: {exc.message}", reason=exc.reason, hint=exc.hint) from exc
    except SourceRefused as exc:
        raise SourceRefused(f"submodule {path}: {exc.message}", hint=exc.hint) from exc
    except RepositoryError as exc:  # not of this mirror, which need not be made anew for it
        raise FetchFailed(f"submodule {path}: {exc.message}", reason="corrupt", hint=exc.hint) from exc


def _absolute(url: str) -> str:
    """A URL as it is, and a path from the root: git will run in another folder."""
    if "://" in url or ":" in url.partition("/")[0]:
        return url
    return str(Path(url).expanduser().absolute())


def _not_writable(folder: Path, exc: OSError) -> NotWritable:
    hint = "make room, or let the server's user write there"
    return NotWritable(f"the mirror {folder} cannot be written: {exc}", retry_after_s=30.0, hint=hint)
