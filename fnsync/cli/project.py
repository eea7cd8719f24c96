"""`fnsync init`: a new project to begin with."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from fnsync.cli.output import console, printable
from fnsync.errors import FnsyncError

CONFIGURATION = """\
# The configuration of fnsync. Every key is optional, and these are the defaults.
server: {host: 127.0.0.1, port: 8470}

# One Python file for each function, with its settings in a YAML file of the same name beside it.
functions: functions

# What the server makes itself: index, tokens, snapshots, environments. Not for git.
data: .fnsync
"""

FUNCTION = '''\
"""
title: Hello
description: Greets you, and says back what you wrote.
version: 0.1.0
"""

from pydantic import BaseModel, Field


class Pipe:
    class Valves(BaseModel):
        greeting: str = Field(default="Hello", description="How answers begin.")

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body: dict, __user__: dict) -> str:
        said = body["messages"][-1]["content"]
        return f"{self.valves.greeting}, {__user__['name']}! You said: {said}"
'''

SETTINGS = """\
# Settings of hello.py. A change here or there is in effect with the next call.
valves:
  greeting: Hello
"""

IGNORED = (".fnsync/", "__pycache__/")

FILES = {
    "fnsync.yaml": CONFIGURATION,
    "functions/hello.py": FUNCTION,
    "functions/hello.yaml": SETTINGS,
}


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the new project; made if it is missing.")],
) -> None:
    """Make a project: a git repository with a configuration and a first function."""
    make_project(folder)
    out = console()
    out.print(f"{printable(str(folder))} is a fnsync project now:")
    for name in (*FILES, ".gitignore"):
        out.print(f"  {name}", style="cyan")
    out.print("Go on with:")
    out.print(f"  cd {_quoted(folder)} && fnsync dev")


def make_project(folder: Path) -> None:
    """Write the files into `folder`. Raises FnsyncError, and then nothing was written over.

    A crash in between leaves the files made so far; a second run names them.
    """
    if folder.exists() and not folder.is_dir():
        raise FnsyncError(f"{folder} is a file", hint="name a folder")
    taken = [name for name in ("fnsync.yaml", "functions") if _is_taken(folder / name)]
    if taken:
        raise FnsyncError(
            f"{folder} has {' and '.join(taken)} already; nothing was changed",
            hint="name another folder, or run `fnsync dev` if this is a project already",
        )
    try:
        (folder / "functions").mkdir(parents=True, exist_ok=True)
        for name, text in FILES.items():
            (folder / name).write_text(text, encoding="utf-8")
        _ignore(folder / ".gitignore")
    except OSError as exc:
        raise FnsyncError(f"{exc.filename}: {exc.strerror}") from exc
    _ensure_repository(folder)


def _is_taken(path: Path) -> bool:
    """Whether something is there that is not an empty folder."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _ignore(file: Path) -> None:
    """Add what git is to ignore; a file that is there keeps its lines."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    missing = [line for line in IGNORED if line not in text.splitlines()]
    if missing:
        start = text if not text or text.endswith("\n") else text + "\n"
        file.write_text(start + "\n".join(missing) + "\n", encoding="utf-8")


def _ensure_repository(folder: Path) -> None:
    """`git init`, unless the folder lies in a repository already."""
    inside = _git(folder, "rev-parse", "--is-inside-work-tree")
    if inside.returncode == 0 and inside.stdout.strip() == "true":
        return
    made = _git(folder, "init", "--quiet", "--initial-branch=main")
    if made.returncode != 0:
        raise FnsyncError(f"git init failed in {folder}: {made.stderr.strip()}", hint="the files are there; see above")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607 -- git of the PATH is what users expect
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as exc:
        raise FnsyncError("git is not installed", hint="install git; the files are written already") from exc


def _quoted(folder: Path) -> str:
    text = str(folder)
    return text if re.fullmatch(r"[\w./+-]+", text, re.ASCII) else "'" + text.replace("'", "'\\''") + "'"
