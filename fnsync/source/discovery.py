"""Finds the function files below the functions folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fnsync.model import FileStamp, Problem


@dataclass(frozen=True, slots=True)
class Scan:
    """What one walk found. Paths are relative to the functions folder."""

    #: Source files of functions, sorted.
    sources: tuple[str, ...]
    #: Every file that is not ignored.
    files: Mapping[str, FileStamp]
    #: What cannot be a function and looks as if it should: bad ids, links that lead outside, ...
    refused: tuple[Problem, ...]


def scan(root: Path) -> Scan:
    """Walk the functions folder once; opens no file but `.fnsyncignore`."""
    raise NotImplementedError
