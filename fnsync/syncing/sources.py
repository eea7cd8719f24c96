"""All sources of a server: those of the configuration, as it is now.

The configuration file is looked at again and again, so that a pull, an edit by hand and the API change sources in the
same way: the file says which there are.
"""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from fnsync.config import Config, load
from fnsync.configgit import SourceConfig
from fnsync.errors import FnsyncError, NotFound
from fnsync.git.githubapp import GithubTokens
from fnsync.git.remote import redacted
from fnsync.model import FunctionId, Revision, Tree
from fnsync.planning import Planner
from fnsync.plans import Candidate
from fnsync.reconcile import Reconciler
from fnsync.syncing.follower import Follower, Publish

log = structlog.get_logger()

#: How often the configuration file is looked at, in seconds.
LOOK_S = 2.0


class Sources:
    """The followers of one server, by name. On the loop; `start` before use, `close` after."""

    def __init__(
        self, config: Config, environ: Mapping[str, str], publish: Publish, on_step: Callable[[str], None]
    ) -> None:
        """`on_step` is told each step of a sync as it is reached."""
        #: What is wrong with the configuration file as it is now; then the sources stay as they are.
        self.problem: str | None = None
        self._config = config
        self._environ = environ
        self._publish = publish
        #: Of GitHub Apps; they hold for an hour.
        self._tokens = GithubTokens()
        self._on_step = on_step
        self._folder = config.data / "sources"
        self._followers = {one.name: self._new(one) for one in config.sources}
        self._stamp = self._look()
        self._turn = asyncio.Lock()
        self._look_now = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def trees(self) -> list[Tree]:
        """What served when the server stopped; blocking."""
        found = (follower.tree() for follower in self._followers.values())
        return [tree for tree in found if tree is not None]

    def quarantine(self) -> dict[FunctionId, Revision]:
        """The revisions that are not taken."""
        return {id: revision for one in self._followers.values() for id, revision in one.quarantine.items()}

    def url(self, name: str) -> str | None:
        """The address of a source, without what is secret in it; None: there is none of that name."""
        follower = self._followers.get(name)
        return None if follower is None else redacted(follower.config.url, follower.config.url)

    async def candidate(self, name: str) -> Candidate:
        """What a sync would go over to; nothing is switched. Raises NotFound, FnsyncError."""
        return await self.find(name).candidate()

    def start(self, reconciler: Reconciler, planner: Planner) -> None:
        """Begin to follow."""
        self._reconciler = reconciler
        self._planner = planner
        for follower in self._followers.values():
            follower.start(reconciler, planner)
        if self._config.file is not None:
            self._watching = asyncio.create_task(self._watch_file())

    def stop(self) -> None:
        """Begin no sync any more, and end what runs with remotes, so that nobody waits for it."""
        for follower in self._followers.values():
            follower.stop()

    async def close(self) -> None:
        """End all."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await asyncio.gather(*(follower.close() for follower in self._followers.values()))

    @property
    def followers(self) -> Mapping[str, Follower]:
        """Name -> follower, in the order of the configuration."""
        return self._followers

    def find(self, name: str) -> Follower:
        """Raises NotFound, which names those that there are."""
        follower = self._followers.get(name)
        if follower is None:
            near = difflib.get_close_matches(name, self._followers, n=3)
            known = ", ".join(near or sorted(self._followers)[:10])
            hint = f"there are: {known}" if known else "fnsync source add URL"
            raise NotFound(f"there is no source {name[:64]!r}", hint=hint)
        return follower

    def may_have(self, id: FunctionId | None) -> list[str]:
        """The sources that may have a function which is not here, by its id; the most likely first. None: all."""
        prefixes = {name: follower.config.prefix for name, follower in self._followers.items()}
        fitting = [name for name, prefix in prefixes.items() if id is None or id.startswith(prefix)]
        return sorted(fitting, key=lambda name: -len(prefixes[name]))

    def ask(self, name: str) -> None:
        """Have a sync of a source begin. Raises NotFound."""
        self.find(name).ask()

    def ask_all(self) -> None:
        """Have the configuration file looked at, and a sync of every source begin that is not suspended."""
        self._look_now.set()
        for follower in self._followers.values():
            if not follower.config.suspend:
                follower.ask()

    # ---- the configuration ----

    async def reload(self) -> None:
        """Make the sources those of the configuration file as it is now. Raises ConfigError; then they stay."""
        async with self._turn:
            self._stamp = self._look()
            wanted = await asyncio.to_thread(load, self._config.file, self._environ)
            await self._become(wanted.sources)

    async def _become(self, wanted: tuple[SourceConfig, ...]) -> None:
        names = {one.name for one in wanted}
        for name in [name for name in self._followers if name not in names]:
            follower = self._followers.pop(name)
            await follower.leave()
            await follower.forget()
            log.info("source_removed", source=name)
        followers: dict[str, Follower] = {}
        for one in wanted:
            before = self._followers.get(one.name)
            if before is not None and before.config == one:
                followers[one.name] = before
                continue
            if before is not None:
                await before.close()
            follower = self._new(one)
            if before is not None:
                follower.take_over(before)
            follower.start(self._reconciler, self._planner)
            followers[one.name] = follower
            url = redacted(one.url, one.url)
            log.info("source_added" if before is None else "source_changed", source=one.name, url=url, ref=one.ref)
        self._followers = followers

    async def _watch_file(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._look_now.wait()
            self._look_now.clear()
            if self._look() != self._stamp:
                await self._follow_file()

    async def _follow_file(self) -> None:
        try:
            await self.reload()
            self.problem = None
        except (FnsyncError, OSError) as exc:
            self.problem = str(exc)
            log.warning("configuration_unusable", error=str(exc), hint="the sources stay as they are")
        except Exception as exc:  # nobody else looks at the file, and the next edit may be a good one
            self.problem = f"the configuration file cannot be taken: {type(exc).__name__}"
            log.exception("configuration_broken", hint="the sources stay as they are")

    def _look(self) -> tuple[int, int, int] | None:
        """What tells the configuration file from an edited one."""
        if self._config.file is None:
            return None
        try:
            found = os.stat(self._config.file)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _new(self, config: SourceConfig) -> Follower:
        folder = self._folder / config.name
        return Follower(config, self._config.sync, folder, self._environ, self._tokens, self._publish, self._on_step)
