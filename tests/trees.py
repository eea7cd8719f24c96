"""Sources as a sync leaves them: a bare mirror, and a folder for each commit with hard links to the one before."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from fnsync.model import CommitId, Tree
from tests.repositories import Repository


class Upstream(Repository):
    """A repository that is mirrored below `data`; its functions are in its folder `functions`."""

    def __init__(self, folder: Path, data: Path, name: str = "acme", prefix: str = "") -> None:
        super().__init__(folder)
        self.name = name
        self.prefix = prefix
        self.mirror = data / name / "mirror"
        self.trees = data / name / "trees"
        self._before: Path | None = None

    def tree(self, commit: str = "HEAD", *options: str) -> Tree:
        """The tree of a commit; `options` are those of the clone that the mirror is."""
        if not self.mirror.exists():
            self.git("clone", "-q", "--bare", *options, f"file://{self.folder}", str(self.mirror))
        else:
            self.git("-C", str(self.mirror), "fetch", "-q", f"file://{self.folder}", "+main:main")
        hash = self.git("rev-parse", commit)
        target = self.trees / hash
        if not target.exists():
            self._materialize(hash, target)
        return Tree(self.name, self.prefix, target, CommitId(hash), self.mirror, "functions")

    def _materialize(self, commit: str, target: Path) -> None:
        archive = ["git", "-C", str(self.folder), "archive", "--format=tar", f"{commit}:functions"]
        done = subprocess.run(archive, check=True, capture_output=True)
        target.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as files:
            files.extractall(target, filter="data")
        before = self._before
        for file in target.rglob("*") if before is not None else ():
            assert before is not None
            old = before / file.relative_to(target)
            if file.is_file() and old.is_file() and old.read_bytes() == file.read_bytes():
                file.unlink()
                file.hardlink_to(old)
        self._before = target

    def changed(self, old: str, new: str) -> frozenset[str]:
        """What differs between two commits, from the folder of the functions."""
        listing = self.git("diff", "--name-only", "--no-renames", old, new, "--", "functions")
        return frozenset(path.removeprefix("functions/") for path in listing.splitlines())
