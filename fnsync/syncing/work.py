"""What following a source does on disk and with its remote: fetch, verify, materialize, clean."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from fnsync.configgit import SourceConfig, SyncConfig
from fnsync.errors import FetchFailed, RepositoryError
from fnsync.git.access import GitAccess, access
from fnsync.git.githubapp import GithubTokens
from fnsync.git.materialize import Selection, TreeLimits, clean
from fnsync.git.mirror import Fetched, Mirror, MirrorOptions
from fnsync.git.passage import Passage
from fnsync.git.remote import Commit
from fnsync.git.verify import is_wanted, verify
from fnsync.model import CommitId, Tree
from fnsync.previews.refs import Where
from fnsync.syncing.record import Switched

log = logging.getLogger(__name__)

#: A fetch may bring this many times what a commit may have: it brings history, too.
FETCH_TIMES = 4
#: How the folders of commits that are only looked at begin.
PREVIEW = "preview-"
#: How many digits tell one selection of files from another.
_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Found:
    """What the remote has."""

    fetched: Fetched
    #: Who signed it; None: nobody was asked for.
    signer: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """What is being done now, for people."""

    phase: str
    percent: int | None = None


class Workshop:
    """The disk side of one source. Blocking; one piece of work at a time, but `stop` and `progress` at any time."""

    def __init__(
        self, config: SourceConfig, sync: SyncConfig, folder: Path, environ: Mapping[str, str], tokens: GithubTokens
    ) -> None:
        """`folder` is the source's own, in the data folder."""
        self.progress: Progress | None = None
        self._config = config
        self._folder = folder
        self._environ = environ
        self._tokens = tokens
        self._scratch = folder / "scratch"
        self._limits = TreeLimits(sync.max_files, sync.max_size)
        self._selection = Selection(config.path, config.include, config.ignore)
        options = MirrorOptions(
            depth=config.depth,
            partial=config.partial,
            submodules=config.submodules,
            lfs=config.lfs,
            timeout_s=sync.timeout,
            max_bytes=FETCH_TIMES * sync.max_size,
        )
        self._mirror = Mirror(folder / "mirror", config.url, self._selection, options)

    @property
    def trees(self) -> Path:
        return self._folder / "trees"

    @property
    def verifies(self) -> bool:
        """Whether commits have to be signed."""
        return is_wanted(self._config.verify)

    @property
    def mirror_number(self) -> int:
        """The mirror folder's inode; 0: there is none."""
        try:
            return self._mirror.folder.stat().st_ino
        except OSError:
            return 0

    def name(self, commit: CommitId | str) -> str:
        """The name of the folder of a commit's tree: another one if other files of it are taken."""
        return f"{commit}-{selection_key(self._config)}"

    def has(self, folder: str) -> bool:
        """Whether a tree is there; the rename that ends its making makes it so."""
        return (self.trees / folder).is_dir()

    def fetch(self) -> Found:
        """Ask the remote, and fetch what is new. Raises FetchFailed, SourceRefused, VerificationFailed, ConfigError,
        RepositoryError, NotWritable."""
        config = self._config
        self._begin()
        try:
            with self._access() as granted:
                fetched = self._mirror.fetch(config.ref, granted, self._tell)
            return Found(fetched, self._verified(fetched.commit, fetched.tag))
        finally:
            self._end()

    def _access(self) -> AbstractContextManager[GitAccess]:
        config = self._config
        named = f"sources[{config.name}].auth"
        return access(config.auth, config.url, self._environ, self._scratch, tokens=self._tokens, named=named)

    def find(self, ref: str) -> Where:
        """The commit that a ref means at the remote, or meant when it was asked last; all of it is here then.

        Raises as `fetch` does.
        """
        self._begin()
        try:
            with self._access() as granted:
                commit, tag = self._meaning(ref, granted)
                self._verified(commit, tag)
                target = self.trees / f"{PREVIEW}{commit}"
                # What a partial mirror lacks comes in one go so; the files themselves are not needed.
                self._mirror.materialize(commit, target, self._limits, granted)
                shutil.rmtree(target, ignore_errors=True)
        finally:
            self._end()
        config = self._config
        return Where(self._mirror.folder, commit, self._selection, config.name, config.prefix)

    def _meaning(self, ref: str, granted: GitAccess) -> tuple[CommitId, str | None]:
        """The commit of a ref, and the tag if it is one."""
        try:
            fetched = self._mirror.fetch(ref, granted, self._tell)
            return fetched.commit, fetched.tag
        except FetchFailed as exc:
            known = None if exc.reason == "unknown_ref" else self._mirror.resolve(ref)
            if known is None:
                raise
            log.warning("%s is taken as it was fetched last: %s", ref, exc.message)
            return known, None

    def verified(self, commit: CommitId) -> str | None:
        """Who signed a commit that is here. Raises VerificationFailed, RepositoryError."""
        self._begin()
        try:
            return self._verified(commit, None)
        finally:
            self._end()

    def _verified(self, commit: CommitId, tag: str | None) -> str | None:
        rules = self._config.verify
        if not is_wanted(rules):
            return None
        self._tell("verifying", None)
        return verify(
            self._mirror.folder, commit, tag, rules, self._scratch, named=f"sources[{self._config.name}].verify"
        )

    def materialize(self, commit: CommitId, live: Switched | None) -> Tree:
        """The commit's tree, made if it is not there. Raises as `fetch` does."""
        target = self.trees / self.name(commit)
        beside = None
        if live is not None and live.folder == self.name(live.commit) and self.has(live.folder):
            beside = (CommitId(live.commit), self.trees / live.folder)
        self._begin()
        try:
            with self._access() as granted:
                self._tell("writing files", None)
                made = self._mirror.materialize(commit, target, self._limits, granted, beside)
            return self._tree(made.folder, commit)
        finally:
            self._end()

    def mounted(self, record: Switched) -> Tree | None:
        """The tree of what a record tells of, as the configuration is now; None: it is not there."""
        if not self.has(record.folder):
            return None
        return self._tree(self.trees / record.folder, CommitId(record.commit))

    def changed(self, old: Switched, new: CommitId) -> frozenset[str] | None:
        """The paths that differ between the tree that serves and another one; None: any may."""
        if old.folder != self.name(old.commit):
            return None
        return self._mirror.changed(CommitId(old.commit), new)

    def passage(self, old: CommitId, new: CommitId) -> Passage:
        """What lies between two commits that are here; nothing is known of one that is not."""
        try:
            return self._mirror.passage(old, new)
        except RepositoryError as exc:
            log.info("nothing is known of what lies between %s and %s: %s", old, new, exc)
            return Passage()

    def commit(self, commit: CommitId) -> Commit:
        """What a commit that is here says of itself. Raises RepositoryError."""
        return self._mirror.commit(commit)

    def resolve(self, ref: str) -> CommitId | None:
        """The commit of a name or hash that is here already. Raises RepositoryError."""
        return self._mirror.resolve(ref)

    def tidy(self, keep: Collection[str], commits: Collection[CommitId]) -> None:
        """Remove trees that are not to be kept, and what a crash left."""
        self._drop(keep)
        self._mirror.tidy(commits)

    def _drop(self, keep: Collection[str]) -> None:
        clean(self.trees)
        for name in _names(self.trees):
            if name not in keep:
                shutil.rmtree(self.trees / name, ignore_errors=True)

    def stop(self) -> None:
        """End what runs; from any thread."""
        self._mirror.stop()

    def remove(self) -> None:
        """Remove all that is kept of the source."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tree(self, folder: Path, commit: CommitId) -> Tree:
        config = self._config
        return Tree(config.name, config.prefix, folder, commit, self._mirror.folder, config.path)

    def _tell(self, phase: str, percent: int | None) -> None:
        self.progress = Progress(phase, percent)

    def sweep(self, keep: Collection[str] | None) -> None:
        """Remove what a crash left, which may hold a key, and all trees but some (None: no tree); at the start."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        if keep is None:
            clean(self.trees)
        else:
            self._drop(keep)

    def _begin(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True, exist_ok=True)
        os.chmod(self._scratch, 0o700)
        self._tell("connecting", None)

    def _end(self) -> None:
        self.progress = None
        shutil.rmtree(self._scratch, ignore_errors=True)


def selection_key(config: SourceConfig) -> str:
    """Tells which files of a commit are taken, and of which repository."""
    taken = [config.url, config.path, config.include, config.ignore, config.submodules, config.lfs]
    return hashlib.sha256(json.dumps(taken).encode()).hexdigest()[:_DIGITS]


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
