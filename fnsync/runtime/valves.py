"""What workers tell about valves, as the server's own values; a worker is not trusted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from fnsync.model import Misfit, Problem
from fnsync.runtime import wire

T = TypeVar("T")

#: What is kept of a worker's misfits: so many, and of each text so many characters.
MOST_MISFITS, MISFIT_CHARACTERS = 50, 1000


def told(reply: wire.Reply, kind: type[T]) -> T:
    """What the worker answered. Raises ValueError for what is too large, or of another type."""
    if len(reply.data) > wire.TOLD_BYTES:
        raise ValueError(f"{len(reply.data):,} bytes are too much; {wire.TOLD_BYTES:,} are allowed")
    try:
        return msgspec.json.decode(reply.data, type=kind)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def misfits_of(found: Iterable[wire.Misfit]) -> tuple[Misfit, ...]:
    """The misfits that a worker told, cut to what is kept."""
    return tuple(
        Misfit(misfit.field[:MISFIT_CHARACTERS], misfit.message[:MISFIT_CHARACTERS], misfit.missing)
        for misfit in list(found)[:MOST_MISFITS]
    )


def problem_of(misfits: tuple[Misfit, ...]) -> Problem:
    """What a status says of stored valves that do not fit."""
    return Problem(
        "valves",
        f"valves do not fit: {'; '.join(map(str, misfits))}",
        hint="correct the values under `valves:` in the settings file",
    )
