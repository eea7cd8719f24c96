"""Bare repositories that others push to, for servers that follow them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import Project

PIPE = "class Pipe:\n    def pipe(self, body):\n        return {!r}\n"


class Remote:
    """A bare repository, and a colleague's clone of it. Functions lie in `functions/`."""

    def __init__(self, folder: Path, files: Mapping[str, str] | None = None) -> None:
        self.bare = folder / "remote.git"
        subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", self.bare], check=True)
        self.there = Project(folder / "there")
        self.there.git("remote", "add", "origin", str(self.bare))
        self.push(files or {})

    @property
    def url(self) -> str:
        return f"file://{self.bare}"

    def push(
        self, files: Mapping[str, str | None], message: str = "change", branch: str = "main", *, amend: bool = False
    ) -> str:
        """Commit files (None: removed) and push them; returns the commit. `amend`: the history is written anew."""
        for path, text in files.items():
            if text is None:
                self.there.remove(path)
            else:
                self.there.write(path, text)
        if amend:
            self.there.git("add", "functions")
            self.there.git("commit", "-q", "--amend", "--allow-empty", "-m", message)
        else:
            self.there.commit(message)
        self.there.git("push", "-q", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return self.head()

    def head(self) -> str:
        return self.there.git("rev-parse", "HEAD")

    def tag(self, name: str) -> None:
        self.there.git("tag", name)
        self.there.git("push", "-q", "--force", "origin", f"refs/tags/{name}")

    def vanish(self) -> None:
        self.bare.rename(self.bare.with_suffix(".gone"))

    def come_back(self) -> None:
        self.bare.with_suffix(".gone").rename(self.bare)

    def begin_anew(self) -> None:
        """Take all functions away from the clone; the next push has what it says only."""
        if self.there.functions.exists():
            shutil.rmtree(self.there.functions)
        self.there.functions.mkdir()
