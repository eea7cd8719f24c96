"""Git repositories for tests, with commits at the times that a test says."""

import os
import subprocess
from pathlib import Path

#: The second that the tests' times count from.
BEGIN = 1_700_000_000


class Repository:
    """A repository whose commits are made at the times a test says."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.functions = folder / "functions"
        self.functions.mkdir(parents=True)
        self.git("init", "-q", "-b", "main", *options)

    @classmethod
    def at(cls, folder: Path) -> "Repository":
        """The one that is there already."""
        found = cls.__new__(cls)
        found.folder, found.functions = folder, folder / "functions"
        return found

    def git(self, *arguments: str, at: int = 0, by: str = "ada@example.org", allowed: tuple[int, ...] = (0,)) -> str:
        dates = {"GIT_AUTHOR_DATE": "@1 +0000", "GIT_COMMITTER_DATE": f"@{BEGIN + at} +0000"}
        names = {"GIT_AUTHOR_NAME": "A", "GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@example.org"}
        done = subprocess.run(
            ["git", "-C", str(self.folder), "-c", "commit.gpgsign=false", *arguments],
            check=False,
            capture_output=True,
            encoding="utf-8",
            env=os.environ | dates | names | {"GIT_AUTHOR_EMAIL": by},
        )
        assert done.returncode in allowed, done.stderr
        return done.stdout.strip()

    def commit(self, at: int, files: dict[str, str | None], by: str = "ada@example.org", message: str = "m") -> str:
        for path, text in files.items():
            file = self.functions / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message, at=at, by=by)
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")
