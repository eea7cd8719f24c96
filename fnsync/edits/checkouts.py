"""One commit of a git repository, fetched for one piece of work, as files in a folder that is gone afterwards."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fnsync.configgit import SourceAuth, SourceConfig, SourceVerify, SyncConfig
from fnsync.errors import ConfigError, Invalid
from fnsync.git import command
from fnsync.git.access import access
from fnsync.git.location import REMOTE, Location, same, scheme, shown
from fnsync.git.materialize import Selection, TreeLimits
from fnsync.git.mirror import Fetched, Mirror, MirrorOptions
from fnsync.git.remote import Commit
from fnsync.git.verify import verify
from fnsync.model import CommitId
from fnsync.places import MAIN

#: How many are fetched at the same time.
AT_ONCE = 2

#: Hears what is being done, and how far it is in per cent, if that is known.
Tell = Callable[[str, int | None], None]


@dataclass(frozen=True, slots=True)
class Checkout:
    """The files of one commit."""

    #: What they are relative to, as a functions folder.
    folder: Path
    #: The one source that was named, from `folder`; None: all are meant.
    only: str | None
    #: Without credentials.
    url: str
    #: What was fetched: a full ref, or a hash.
    ref: str
    commit: Commit


class Checkouts:
    """Fetches commits. One for each server; on the loop; `close` after use."""

    def __init__(
        self, scratch: Path, sync: SyncConfig, environ: Mapping[str, str], sources: Callable[[], Iterable[SourceConfig]]
    ) -> None:
        """`scratch` is emptied at each start; `sources` gives those that are configured now."""
        self._scratch = scratch
        self._sync = sync
        self._environ = environ
        self._sources = sources
        # Threads of their own: what waits for a remote must not hold up other work.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="checkout")
        self._under_way: set[_Work] = set()

    @asynccontextmanager
    async def get(
        self, location: Location, auth: SourceAuth | None = None, tell: Tell = lambda phase, percent: None
    ) -> AsyncIterator[Checkout]:
        """The commit at a place, for the time of the block. `auth`: None is that of a source of the same repository,
        else what git itself is set up with. What that source has to prove, this has to prove too.

        Raises Invalid for a repository that may not be read so, FetchFailed, SourceRefused, VerificationFailed,
        NotWritable, Draining.
        """
        known = next((one for one in self._sources() if same(one.url, location.url)), None)
        url = _allowed(location.url, known)
        if auth is None:
            auth = known.auth if known is not None else SourceAuth()
        folder = self._scratch / f"checkout-{secrets.token_hex(8)}"
        rules = known.verify if known is not None else SourceVerify()
        work = _Work(folder, url, location, auth, rules, self._environ, self._sync, tell)
        self._under_way.add(work)
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work.run)
            try:
                found = await asyncio.shield(future)
            except asyncio.CancelledError:
                work.stop()
                await asyncio.wait([future])
                raise
            except ConfigError as exc:  # of what the caller named, or of a source: neither is a fault of ours
                raise Invalid(exc.message, param="auth", hint=exc.hint) from exc
            yield found
        finally:
            self._under_way.discard(work)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def close(self) -> None:
        """End what runs."""
        for work in self._under_way:
            work.stop()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)


class _Work:
    """One fetch. Blocking, but `stop` from any thread."""

    def __init__(
        self,
        folder: Path,
        url: str,
        location: Location,
        auth: SourceAuth,
        rules: SourceVerify,
        environ: Mapping[str, str],
        sync: SyncConfig,
        tell: Tell,
    ) -> None:
        self._folder = folder
        self._url = url
        self._location = location
        self._auth = auth
        self._rules = rules
        self._environ = environ
        self._sync = sync
        self._tell = tell
        self._mirror = self._mirrored(Selection())

    def run(self) -> Checkout:
        keys = self._folder / "keys"
        keys.mkdir(parents=True, mode=0o700)
        with access(self._auth, self._url, self._environ, keys) as granted:
            fetched = self._mirror.fetch(self._location.ref, granted, self._tell)
            if self._rules.ssh or self._rules.gpg:
                self._tell("verifying", None)
                verify(self._mirror.folder, fetched.commit, fetched.tag, self._rules, keys)
            path, selection, only = self._meant(fetched)
            self._mirror = self._mirrored(selection)
            limits = TreeLimits(self._sync.max_files, self._sync.max_size)
            made = self._mirror.materialize(fetched.commit, self._folder / "files", limits, granted, None, self._tell)
        return Checkout(made.folder / path, only, shown(self._url), fetched.ref, self._mirror.commit(fetched.commit))

    def stop(self) -> None:
        self._mirror.stop()

    def _mirrored(self, selection: Selection) -> Mirror:
        options = MirrorOptions(timeout_s=self._sync.timeout, max_bytes=self._sync.max_size)
        return Mirror(self._folder / "mirror", self._url, selection, options)

    def _meant(self, fetched: Fetched) -> tuple[str, Selection, str | None]:
        """What is wanted: where the functions lie in the files, which files, and the source if one is named."""
        path = self._location.path
        if path is None:
            return "", Selection(), None
        around, _, name = path.rpartition("/")
        beside = Selection(around or ".", include=(f"/{_escaped(name)}", "/_*"))
        kind = self._kind(fetched.commit, path)
        if kind == "blob" and name == MAIN and around:
            above, _, folder = around.rpartition("/")
            return "", Selection(above or ".", include=(f"/{_escaped(folder)}", "/_*")), f"{folder}/{MAIN}"
        if kind == "blob":
            if not name.endswith(".py"):
                raise Invalid(f"path: {path} is no Python file", param="path")
            settings = f"/{_escaped(name.removesuffix('.py'))}.yaml"
            return "", Selection(around or ".", include=(*beside.include, settings)), name
        if kind == "tree" and self._kind(fetched.commit, f"{path}/{MAIN}") == "blob":
            return "", beside, f"{name}/{MAIN}"
        return "", Selection(path), None  # what is not there is refused with names that are like it

    def _kind(self, commit: CommitId, path: str) -> str | None:
        """What lies at a path: `blob`, `tree`, …; asks for no content, which may not have been fetched."""
        _, found = command.run(self._mirror.folder, "ls-tree", "-z", "--full-tree", commit, "--", path)
        entry = found.split(b"\0")[0].split()
        return entry[1].decode() if entry else None


def _allowed(url: str, known: SourceConfig | None) -> str:
    """The address to fetch from. Raises Invalid.

    Who may call the API is not therefore to read every repository on this machine: only those of sources.
    """
    how = scheme(url)
    if how in REMOTE:
        return url
    if known is not None:
        return known.url
    if how == "file":
        raise Invalid(
            f"url: {shown(url)} is on the server's own disk, and no source in its configuration names it",
            param="url",
            hint="name it in sources, or give an https or ssh address",
        )
    raise Invalid(f"url: {how} is no way to a repository; expected one of {', '.join(REMOTE)}", param="url")


def _escaped(name: str) -> str:
    """A name as a pattern of .gitignore that means it alone."""
    return "".join(f"\\{char}" if char in "\\*?[]!# " else char for char in name)
