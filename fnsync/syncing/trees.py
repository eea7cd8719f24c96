"""Goes over from one commit of a source to another, and keeps what is needed to go back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from fnsync.configgit import SourceConfig, SyncConfig
from fnsync.errors import Draining, FnsyncError, NotFound, NotWritable, RepositoryError
from fnsync.git.githubapp import GithubTokens
from fnsync.git.passage import Passage
from fnsync.model import CommitId, Tree
from fnsync.previews.refs import Where
from fnsync.reconcile import Reconciler
from fnsync.reports import ReloadReport
from fnsync.syncing import record as records
from fnsync.syncing.record import Record, Switched
from fnsync.syncing.work import Found, Progress, Workshop

log = structlog.get_logger()

T = TypeVar("T")
#: How often trees that are not kept any more are removed: after so many switches.
TIDY_EVERY = 10
#: The shortest hash that names a commit.
_HASH_DIGITS = 7


class Trees:
    """What of one source is on disk, and what of that is mounted. On the loop; one piece of work at a time."""

    def __init__(
        self,
        config: SourceConfig,
        sync: SyncConfig,
        folder: Path,
        environ: Mapping[str, str],
        tokens: GithubTokens,
        on_step: Callable[[str], None],
    ) -> None:
        """`folder` is the source's own, in the data folder."""
        self.record = records.read(folder / "record.json")
        self._config = config
        self._keep = sync.keep
        self._file = folder / "record.json"
        self._workshop = Workshop(config, sync, folder, environ, tokens)
        self._on_step = on_step
        # Its own: a remote that does not answer holds up no other source, and nothing else of the server.
        self._thread = ThreadPoolExecutor(1, f"source-{config.name}")
        #: The tree that is mounted.
        self._mounted: Tree | None = None
        #: Whether functions that left were taken away by the last switch.
        self._pruned = True
        self._switches = 0
        self._tidied = 0
        self._is_closed = False

    @property
    def commit(self) -> CommitId | None:
        """What serves."""
        return None if self.record.live is None else CommitId(self.record.live.commit)

    @property
    def progress(self) -> Progress | None:
        """What is being done now."""
        return self._workshop.progress

    def tree(self) -> Tree | None:
        """What served when the server stopped, for the reconciler's start; blocking."""
        live = self.record.live
        # A record that could not be read names none.
        self._workshop.sweep(None if live is None else self._folders)
        self._mounted = None if live is None else self._workshop.mounted(live)
        self._pruned = self._config.prune
        return self._mounted

    def take_over(self, before: Trees) -> None:
        """Begin with what another one, of the same source under another configuration, has mounted."""
        self._mounted, self._pruned = before._mounted, before._pruned

    async def close(self) -> None:
        """End what runs."""
        if self._is_closed:
            return
        self._is_closed = True
        self._workshop.stop()
        # What waits sees that it is stopped, and says so to whoever asked for it.
        await asyncio.get_running_loop().run_in_executor(self._thread, _nothing)
        self._thread.shutdown(wait=False)

    def stop(self) -> None:
        """End what runs with the remote."""
        self._workshop.stop()

    async def forget(self) -> None:
        """Remove all that is kept."""
        await asyncio.to_thread(self._workshop.remove)

    async def fetch(self) -> Found:
        """Ask the remote, and fetch what is new. Raises FnsyncError."""
        found = await self._in_thread(self._workshop.fetch)
        self.record = msgspec.structs.replace(self.record, fetched_at=time.time())
        return found

    async def find(self, ref: str) -> Where:
        """The commit that a ref means at the remote. Raises FnsyncError."""
        return await self._in_thread(partial(self._workshop.find, ref))

    def is_mounted(self, commit: CommitId) -> bool:
        """Whether a commit serves, in the way that the configuration says now."""
        live, mounted = self.record.live, self._mounted
        if live is None or mounted is None or live.commit != commit or mounted.commit != commit:
            return False
        return live.folder == self._workshop.name(commit) and self._is_mounted_alike(mounted)

    def _is_mounted_alike(self, mounted: Tree) -> bool:
        return (mounted.prefix, self._pruned) == (self._config.prefix, self._config.prune)

    async def made(self, commit: CommitId) -> tuple[Tree, frozenset[str] | None]:
        """The tree of a commit that was fetched, made if it is not there; and the paths that differ from what serves
        (None: any may). Raises FnsyncError."""
        live = self.record.live
        tree = await self._in_thread(partial(self._workshop.materialize, commit, live))
        mounted = self._mounted
        if live is None or mounted is None or mounted.commit != live.commit or not self._is_mounted_alike(mounted):
            return tree, None
        return tree, await self._in_thread(partial(self._workshop.changed, live, commit))

    def tree_of(self, one: Switched) -> Tree | None:
        """The tree of a commit that is kept; None: it is not there any more."""
        return self._workshop.mounted(one)

    async def passage(self, old: CommitId | None, new: CommitId) -> Passage:
        """What lies between what served and a commit that was fetched."""
        if old is None:
            return Passage()
        return await self._in_thread(partial(self._workshop.passage, old, new))

    async def described(self, found: Found, passage: Passage) -> Switched:
        """What is recorded of a commit once it serves; `passage` is that to it."""
        fetched = found.fetched
        info = next((one for one in passage.commits if one.commit == fetched.commit), None)
        if info is None:
            info = await self._in_thread(partial(self._workshop.commit, fetched.commit))
        return Switched(
            commit=fetched.commit,
            folder=self._workshop.name(fetched.commit),
            ref=fetched.ref,
            at=time.time(),
            subject=info.subject,
            author=info.author,
            committed_at=info.at,
            tag=fetched.tag,
            signer=found.signer,
        )

    async def switch(
        self, reconciler: Reconciler, to: Switched, changed: frozenset[str] | None, *, pin: str | None = None
    ) -> ReloadReport | None:
        """Go over to a tree that is there, and with `pin` stay there; returns when its functions answer or have failed.

        First it is recorded: after a crash in the middle the next start goes on with it.
        """
        tree = self._workshop.mounted(to)
        if tree is None:
            raise RepositoryError(f"the files of {to.commit[:12]} are gone from {self._workshop.trees}")
        record = records.switched(self.record, to, self._keep)
        await self.remember(msgspec.structs.replace(record, pin=pin))
        self._mounted = None
        self._on_step("recorded")
        config = self._config
        # All of its functions were tried, so none is waited for.
        at_once = config.gate == "all"
        report = await reconciler.switch(config.name, tree, changed, prune=config.prune, at_once=at_once)
        self._mounted, self._pruned = tree, self._config.prune
        self._on_step("switched")
        self._switches += 1
        return report

    @property
    def mark(self) -> tuple[int, int]:
        """Another one once commits that were looked at may be gone from the mirror: it was tidied, or made anew."""
        return self._tidied, self._workshop.mirror_number

    async def tidy(self) -> None:
        """Remove what is not kept any more, if that is due and nothing runs with the remote, which may hang."""
        if self._switches < TIDY_EVERY or self.progress is not None or self._is_closed:
            return
        self._switches = 0
        self._tidied += 1
        commits = [CommitId(one.commit) for one in self._kept]
        try:
            await self._in_thread(partial(self._workshop.tidy, self._folders, commits))
        except (FnsyncError, OSError) as exc:  # what was gone over to serves
            log.warning("source_not_tidied", source=self._config.name, error=str(exc))

    @property
    def _kept(self) -> list[Switched]:
        return [one for one in (self.record.live, *self.record.history) if one is not None]

    @property
    def _folders(self) -> set[str]:
        """The trees that are kept."""
        return {one.folder for one in self._kept} | set(self.record.brought_back.values())

    async def earlier(self, to: str | None) -> Switched:
        """What a rollback goes to; its tree is there. Raises NotFound."""
        name, live = self._config.name, self.record.live
        if to is None:
            found = next((one for one in self.record.history if live is None or one.commit != live.commit), None)
            if found is None:
                raise NotFound(
                    f"{name} has served no other commit yet", hint=f"name one: fnsync rollback {name} COMMIT"
                )
        else:
            known = (live, *self.record.history)
            found = next(
                (one for one in known if one is not None and len(to) >= _HASH_DIGITS and one.commit.startswith(to)),
                None,
            )
        if found is not None and found.folder == self._workshop.name(found.commit) and self._workshop.has(found.folder):
            signer = found.signer
            if signer is None and self._workshop.verifies:  # it served before signatures were asked for
                signer = await self._in_thread(partial(self._workshop.verified, CommitId(found.commit)))
            return msgspec.structs.replace(found, at=time.time(), signer=signer)
        text = to if found is None else found.commit
        commit = None if text is None else await self._in_thread(partial(self._workshop.resolve, text))
        if commit is None:
            hint = f"fnsync source list {name} shows those that are kept"
            raise NotFound(f"{name} has no commit {text!r} here", hint=hint)
        signer = await self._in_thread(partial(self._workshop.verified, commit))
        await self._in_thread(partial(self._workshop.materialize, commit, live))
        info = await self._in_thread(partial(self._workshop.commit, commit))
        folder = self._workshop.name(commit)
        return Switched(commit, folder, commit, time.time(), info.subject, info.author, info.at, None, signer)

    async def remember(self, record: Record) -> None:
        """Keep a record, on disk first. Raises NotWritable."""
        try:
            await asyncio.to_thread(records.write, self._file, record)  # beside a fetch that hangs
        except OSError as exc:
            hint = "make room, or let the server's user write there"
            raise NotWritable(f"{self._file} cannot be written: {exc}", retry_after_s=30.0, hint=hint) from exc
        self.record = record

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise Draining(f"{self._config.name} is not followed any more")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _nothing() -> None:
    """What ends when all before it has."""
