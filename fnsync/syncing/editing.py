"""Changes which sources there are: the configuration file, as a commit where it lies in the repository."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fnsync.config import Config, parse
from fnsync.configgit import SourceConfig
from fnsync.edits import messages
from fnsync.errors import ConfigError, Invalid, WriteDenied
from fnsync.git import command
from fnsync.git.commit import Author
from fnsync.git.edit import TreeEditor
from fnsync.git.journal import Change, Intent
from fnsync.git.lock import writing
from fnsync.model import User
from fnsync.syncing import configfile

#: Sets all sources, whatever the file says.
VARIABLE = "FNSYNC_SOURCES"


class SourceEditor:
    """Edits the configuration file of a server. On the loop."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        editor: TreeEditor | None,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_commit` is called after each commit."""
        self._config = config
        self._environ = environ
        self._editor = editor
        self._on_commit = on_commit
        self._turn = asyncio.Lock()

    async def add(self, entry: Mapping[str, Any], author: User) -> SourceConfig:
        """Add a source. Raises Invalid for a bad entry, Conflict for a name that is taken, WriteDenied."""
        name = str(entry.get("name"))
        wanted = await self._edit(lambda text: configfile.added(text, entry), f"Follow the source {name}", author)
        return next(one for one in wanted.sources if one.name == name)

    async def remove(self, name: str, author: User) -> None:
        """Take a source out. Raises NotFound, WriteDenied."""
        await self._edit(lambda text: configfile.removed(text, name), f"Follow the source {name} no longer", author)

    async def suspend(self, name: str, suspended: bool, author: User) -> None:
        """Suspend a source, or resume it. Raises NotFound, WriteDenied."""
        message = f"{'Suspend' if suspended else 'Resume'} the source {name}"
        await self._edit(lambda text: configfile.amended(text, name, "suspend", suspended), message, author)

    async def _edit(self, change: Callable[[str], str], message: str, author: User) -> Config:
        file = self._config.file
        if file is None or self._environ.get(VARIABLE):
            raise WriteDenied(f"the sources are set by {VARIABLE}", hint="change it there, and restart")
        if self._config.repository.write != "commit":
            raise WriteDenied(
                f"the configuration is changed through git (repository.write: {self._config.repository.write})",
                hint=f"change sources in {file.name} there",
            )
        async with self._turn:
            wanted = await asyncio.to_thread(self._write, file, change, message, author)
        self._on_commit()
        return wanted

    def _write(self, file: Path, change: Callable[[str], str], message: str, author: User) -> Config:
        editor, path = self._editor, self._path(file)
        if editor is None or path is None:
            before, after, wanted = self._changed(file, change)
            if after != before:
                _replace(file, after)
            return wanted
        with editor.locked():
            before, after, wanted = self._changed(file, change)
            if after != before:
                # As the message of any edit: it says whose it is, so that it may be replayed before it is pushed.
                text = messages.compose(None, message, author)
                editor.carry_out(Intent((Change(path, before, after),), text, Author(author.name, author.email)))
            return wanted

    def _changed(self, file: Path, change: Callable[[str], str]) -> tuple[bytes | None, bytes, Config]:
        try:
            before = file.read_bytes()
        except FileNotFoundError:
            before = None
        except OSError as exc:
            raise ConfigError(f"{file} cannot be read: {exc.strerror}") from exc
        text = change((before or b"").decode())
        try:
            wanted = parse(text, self._environ, root=self._config.root, name=file.name)
        except ConfigError as exc:
            raise Invalid(exc.message) from exc
        return before, text.encode(), wanted

    def _path(self, file: Path) -> str | None:
        """The file from the working tree's root; None: it does not lie there, or git ignores it."""
        if self._editor is None:
            return None
        root = self._editor.worktree.root
        real = Path(os.path.realpath(file))
        if not real.is_relative_to(root):
            return None
        path = real.relative_to(root).as_posix()
        code, _ = command.run(root, "check-ignore", "--quiet", "--", path, allowed=(0, 1))
        return None if code == 0 else path


def _replace(file: Path, content: bytes) -> None:
    """Put a new content in place of a file, or of what a link leads to."""
    target = Path(os.path.realpath(file))
    temporary = target.with_name(f".fnsync-{secrets.token_hex(8)}")
    with writing(target.parent):
        try:
            with temporary.open("wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            if target.exists():
                temporary.chmod(target.stat().st_mode & 0o7777)
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
