"""Folders for a moment, which nobody else can read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MARK = "private-"


@contextmanager
def private_folder(scratch: Path) -> Iterator[Path]:
    """A new folder in `scratch`, which is made if need be; it ends with the block, with all that is in it."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix=_MARK, dir=scratch))  # for its owner only
    try:
        yield folder
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


def clean(scratch: Path) -> None:
    """Remove what processes left behind that were killed. Nobody may use the folder meanwhile."""
    for folder in scratch.glob(f"{_MARK}*"):
        shutil.rmtree(folder)
