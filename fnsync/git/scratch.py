"""Folders for a moment, which nobody else can read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_folder(scratch: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `scratch`, which is made if need be; it ends with the block, with all that is in it."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=scratch))  # for its owner only
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
