"""A functions folder with everything below HTTP, over real workers; the watcher's part is played by the tests."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path

import uvloop

from fnsync.changes import LiveChange
from fnsync.git.worktree import WorkTree
from fnsync.model import FunctionId, FunctionRow, Limits, Revision, Tree
from fnsync.plan import Policy
from fnsync.provenance import Provenance
from fnsync.reconcile import Reconciler
from fnsync.registry import Registry
from fnsync.reports import ReloadReport
from fnsync.runtime.call import Invocation
from fnsync.runtime.environments import Environments, RequirementsPolicy
from fnsync.runtime.executor import Executor, ExecutorOptions
from fnsync.source.catalog import Catalog
from fnsync.source.snapshots import Snapshots
from fnsync.store.index import Index

BODY = b'{"messages": [{"role": "user", "content": "hi"}]}'


def says(text: str) -> str:
    """A pipe that answers `text`."""
    return f"class Pipe:\n    def pipe(self, body):\n        return {text!r}\n"


class Heard:
    """What was told of changes: function, and `created`, `changed` or `gone`; and how the start went."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.actors: list[str | None] = []

    def restored(self) -> None:
        self.told.append(("", "restored"))

    def ready(self) -> None:
        self.told.append(("", "ready"))

    def changed(self, change: LiveChange) -> None:
        what = "gone" if change.after is None else "changed" if change.known else "created"
        self.told.append((change.id, what))
        self.actors.append(change.actor.name if change.actor is not None else None)

    def take(self) -> list[tuple[str, str]]:
        """What was told since this was last asked."""
        told, self.told = self.told, []
        return told


class Shared:
    """An executor for one project after the other."""

    def __init__(self, data: Path) -> None:
        self.snapshots: Snapshots | None = None
        self.executor = Executor(
            Environments(data / "environments", RequirementsPolicy(install=False), {}),
            self._folder,
            {"GIVEN": "from outside"},
            ExecutorOptions(data / "scratch"),
        )

    def _folder(self, revision: Revision) -> Path:
        assert self.snapshots is not None
        return self.snapshots.folder(revision)


class Project:
    """A functions folder with everything below HTTP; one executor serves several reconcilers, as restarts would."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "functions"
        self.data = folder / "data"
        self.root.mkdir(parents=True)
        self.data.mkdir()
        self.reports: list[ReloadReport] = []
        self.heard = Heard()
        self.worktree: WorkTree | None = None
        #: What a start finds of sources.
        self.trees: Collection[Tree] = ()
        self.quarantine: Mapping[FunctionId, Revision] = {}

    async def start(self, shared: Shared | None = None) -> None:
        """Begin, with an executor of its own or one that tests share."""
        self.snapshots = Snapshots(self.data)
        self._owned = Shared(self.data) if shared is None else None
        self._shared = self._owned or shared
        assert self._shared is not None
        self._shared.snapshots = self.snapshots
        self.executor = self._shared.executor
        if self._owned is not None:
            await self.executor.start()
        await self.restart()

    async def restart(self, *, without_index: bool = False) -> None:
        """Stop the reconciler, if there is one, and start another over the same data folder."""
        if hasattr(self, "reconciler"):
            await self.reconciler.close()
            self.index.close()
        if without_index:
            (self.data / "index.sqlite3").unlink()
        self.index = Index.open(self.data / "index.sqlite3")
        self.registry = Registry()
        self.reports.clear()
        self.reconciler = Reconciler(
            root=self.root,
            catalog=Catalog(self.root),
            snapshots=self.snapshots,
            index=self.index,
            registry=self.registry,
            executor=self.executor,
            provenance=Provenance(self.worktree, self.root),
            policy=Policy(Limits(timeout_s=5), denied_imports=("ctypes",)),
            on_reload=self.reports.append,
            listener=self.heard,
            trees=self.trees,
            quarantine=self.quarantine,
        )
        await self.reconciler.start()
        await self.reconciler.ready.wait()
        await self.reconciler.settled()

    async def close(self) -> None:
        await self.reconciler.close()
        self.index.close()
        if self._owned is not None:
            await self.executor.close()

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    async def save(self, path: str, text: str) -> None:
        """Write a file and have it taken."""
        self.write(path, text)
        await self.take(path)

    async def take(self, *paths: str) -> None:
        await self.reconciler.reconcile(paths or None)
        await self.reconciler.settled()

    async def ask(self, id: str) -> str:
        function = self.registry.world.functions[FunctionId(id)]
        async with self.executor.call(function, Invocation("pipe", BODY)) as call:
            reply = await call.first()
        return reply.data.decode()  # type: ignore[union-attr]

    async def row_when(self, id: str, condition: Callable[[FunctionRow], bool]) -> FunctionRow:
        """The row, once it is as wanted: HEAD is looked at in intervals."""
        async with asyncio.timeout(10):
            while not condition(self.row(id)):
                await asyncio.sleep(0.02)
        return self.row(id)

    def row(self, id: str) -> FunctionRow:
        row = self.index.row(FunctionId(id))
        assert row is not None, f"the index has no row for {id}"
        return row


@contextlib.asynccontextmanager
async def project() -> AsyncIterator[Project]:
    folder = Path(tempfile.mkdtemp(prefix="fnsync-"))
    made = Project(folder)
    try:
        await made.start()
        yield made
    finally:
        await made.close()
        shutil.rmtree(folder)


def with_project(story: Callable[[Project], Awaitable[None]]) -> None:
    async def run() -> None:
        async with project() as made:
            await story(made)

    uvloop.run(run())
