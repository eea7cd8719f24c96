"""Reads one function from disk: its source, helpers, shared modules and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fnsync.model import Unit


@dataclass(frozen=True, slots=True)
class Reading:
    """A unit as it was read, with its source's text (replacement characters where it is no UTF-8)."""

    unit: Unit
    text: str


def read(root: Path, path: str) -> Reading:
    """Read the function whose source is `path` below `root`; what is wrong with it is in `unit.problem`."""
    raise NotImplementedError
