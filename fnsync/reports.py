"""What changes of the files came to, for people and metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from fnsync.model import Problem


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What one set of changes came to."""

    #: Seconds since the epoch.
    at: float
    took_ms: float
    changed: tuple[str, ...] = ()
    #: Id, first eight digits of the revision, milliseconds.
    loaded: tuple[tuple[str, str, float], ...] = ()
    failed: tuple[tuple[str, Problem], ...] = ()
    removed: tuple[str, ...] = ()
    #: Id and what was applied without loading code.
    applied: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Outcome:
    """What becomes of one set of changes, while it is worked on."""

    started: float = field(default_factory=time.perf_counter)
    changed: tuple[str, ...] = ()
    loaded: list[tuple[str, str, float]] = field(default_factory=list)
    failed: list[tuple[str, Problem]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    applied: list[tuple[str, str]] = field(default_factory=list)

    @property
    def took_ms(self) -> float:
        """Milliseconds since the changes were taken up."""
        return (time.perf_counter() - self.started) * 1000

    def report(self) -> ReloadReport | None:
        """None: nothing happened."""
        return self.summary() if self.loaded or self.failed or self.removed or self.applied else None

    def summary(self) -> ReloadReport:
        """What has happened so far."""
        return ReloadReport(
            time.time(),
            self.took_ms,
            self.changed,
            tuple(self.loaded),
            tuple(self.failed),
            tuple(self.removed),
            tuple(self.applied),
        )


@dataclass(slots=True)
class LoadTally:
    """How loads went since the start."""

    good: int = 0
    failed: int = 0
    #: Seconds that the good ones took, together.
    took_s: float = 0.0
