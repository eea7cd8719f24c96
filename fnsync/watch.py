"""Changes of the functions folder, as debounced sets of paths."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal


class Watcher:
    """Reports what changed below a folder."""

    mode: Literal["inotify", "polling"]
    problem: str | None

    def __init__(
        self,
        root: Path,
        *,
        locked: Callable[[], bool],
        ignore: Callable[[str], bool] | None = None,
        rescan_s: float = 10.0,
    ) -> None:
        raise NotImplementedError

    def changes(self) -> AsyncIterator[frozenset[str] | None]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
