"""Takes the data folder for one process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from fnsync.errors import ConfigError


def take_folders(functions: Path, data: Path) -> IO[str]:
    """Make the folders that are missing and take the data folder. Raises ConfigError that names the folder."""
    for key, folder in (("functions", functions), ("data", data)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if key == "data":
                # Tokens and copies of everything: never for git, whatever the project's own .gitignore says.
                (folder / ".gitignore").write_text("*\n", encoding="ascii")
                return lock(folder)
        except OSError as exc:
            raise ConfigError(
                f"{key}: {folder} cannot be used: {exc.strerror or exc}",
                hint=f"name another folder (`{key}:` in fnsync.yaml, or FNSYNC_{key.upper()})",
            ) from exc
    raise AssertionError("the data folder comes last")


def lock(data: Path) -> IO[str]:
    """Take the data folder for this process. Raises ConfigError when another server has it."""
    file = (data / "lock").open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        file.seek(0)
        pid = file.read().strip() or "unknown"
        file.close()
        raise ConfigError(
            f"another fnsync (pid {pid}) serves with the data folder {data}",
            hint="stop it, or give this one a data folder of its own (`data:` in fnsync.yaml, or FNSYNC_DATA)",
        ) from exc
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
