"""Runs commands for tests: in this process, which is quick, or as the program that users start."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from fnsync.cli.main import main

PROGRAM = [sys.executable, "-m", "fnsync.cli.main"]

Told = subprocess.CompletedProcess[str]


def environ(**variables: str) -> dict[str, str]:
    """The environment without anything that concerns fnsync but `variables`; a server takes any free port."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FNSYNC_")}
    return kept | {"NO_COLOR": "1", "COLUMNS": "120", "PYTHONUNBUFFERED": "1", "FNSYNC_SERVER__PORT": "0"} | variables


def run(cwd: Path, *arguments: str, text: str | None = None, **variables: str) -> Told:
    """Run a command in this process, in the folder `cwd`."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, environ(**variables), clear=True),
        mock.patch.object(sys, "argv", ["fnsync", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO(text or "")),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as exc:
            code = exc.code or 0
    assert isinstance(code, int), code
    return Told(arguments, code, out.getvalue(), err.getvalue())


def run_program(cwd: Path, *arguments: str, **variables: str) -> Told:
    """Run a command as a process of its own."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=environ(**variables),
        check=False,
    )
