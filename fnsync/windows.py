"""When what was fetched may be applied: times that begin as cron expressions say. Pure; times are epoch seconds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from fnsync.configgit import Window, Windows

#: How many ends and beginnings are looked at for the next opening; beyond them it is told as far away.
_MOST_STEPS = 500
#: What cannot be found by then is told as this far away, in seconds.
_FAR_S = 366 * 86_400.0


def opens_at(windows: Windows, now: float) -> float | None:
    """When applying is allowed next; None: now."""
    if not windows.allow and not windows.deny:
        return None
    at = now
    for _ in range(_MOST_STEPS):
        if _is_open(windows, at):
            return None if at == now else at
        at = min(_bounds(windows, at), default=now + _FAR_S)
    return at


def _is_open(windows: Windows, at: float) -> bool:
    if any(_end(window, at) is not None for window in windows.deny):
        return False
    return not windows.allow or any(_end(window, at) is not None for window in windows.allow)


def _bounds(windows: Windows, at: float) -> Iterator[float]:
    """When windows that concern `at` end or begin next."""
    for window in windows.deny:
        end = _end(window, at)
        if end is not None:
            yield end
    for window in windows.allow:
        begins = _occurrence(window, at)
        if begins is not None:
            yield begins


def _end(window: Window, at: float) -> float | None:
    """When the window around `at` ends; None: `at` is in none. Windows that overlap go on as long as the last."""
    begun = _begun(window, at)
    if begun is None or begun + window.duration <= at:
        return None
    return begun + window.duration


def _begun(window: Window, at: float) -> float | None:
    """The last beginning at or before `at`."""
    local = _local(window, at).replace(second=0, microsecond=0) + timedelta(minutes=1)
    return _stamp(next(CronSim(window.cron, local, reverse=True), None))


def _occurrence(window: Window, at: float) -> float | None:
    """The next beginning after `at`."""
    return _stamp(next(CronSim(window.cron, _local(window, at)), None))


def _stamp(when: datetime | None) -> float | None:
    return None if when is None else when.astimezone(UTC).timestamp()


def _local(window: Window, at: float) -> datetime:
    return datetime.fromtimestamp(at, ZoneInfo(window.timezone))
