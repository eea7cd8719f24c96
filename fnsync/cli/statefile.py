"""The state for commands that work on it directly; a running server notices within moments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fnsync.cli.output import console, printable

if TYPE_CHECKING:
    from fnsync.config import Config
    from fnsync.store.state import State


def state_file(config: Config) -> Path:
    """Where the state is."""
    return config.data / "state.sqlite3"


def has_state(config: Config) -> bool:
    """Whether there is a state; says so if not, for commands that only read and should make nothing."""
    if state_file(config).exists():
        return True
    console(stderr=True).print(f"no server has run on {printable(str(config.data))} yet", style="dim")
    return False


@contextmanager
def open_state(config: Config) -> Iterator[State]:
    """The state; made if it is missing."""
    from fnsync.store.state import State  # start time

    config.data.mkdir(parents=True, exist_ok=True)
    state = State.open(f"sqlite:///{state_file(config)}")
    try:
        yield state
    finally:
        state.close()
