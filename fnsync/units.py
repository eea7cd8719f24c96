"""Durations, sizes and rates as people write them, and back."""

from __future__ import annotations

import math
import re

from fnsync.model import Rate

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}

_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)

DURATION_FORM = "a number of seconds, or a number with ms, s, m, h or d, such as 30s or 10m"
SIZE_FORM = "a number of bytes, or a number with KB, MB, GB or TB, such as 256MB"
RATE_FORM = "a count and a period, such as 60/minute (second, minute, hour, day, or a duration such as 10s)"


def parse_duration(value: object) -> float:
    """Return seconds. Raises ValueError that says what is allowed."""
    number, unit = _split(value)
    factor = _SECONDS.get(unit.lower() or "s")
    if number is None or factor is None:
        raise ValueError(f"{_shown(value)} is no duration; expected {DURATION_FORM}")
    return number * factor


def parse_size(value: object) -> int:
    """Return bytes; a KB has 1,024. Raises ValueError that says what is allowed."""
    number, unit = _split(value)
    factor = _BYTES.get(unit.upper().replace("IB", "B") or "B")
    if number is None or factor is None or not (number * factor).is_integer():
        raise ValueError(f"{_shown(value)} is no size; expected {SIZE_FORM}")
    return int(number * factor)


def parse_rate(value: object) -> Rate:
    """Return a rate from text such as `60/minute` or `5/10s`. Raises ValueError that says what is allowed."""
    count, slash, period = value.partition("/") if isinstance(value, str) else ("", "", "")
    try:
        period_s = _PERIODS.get(period.strip().lower()) or parse_duration(period)
        rate = Rate(int(count), period_s)
    except ValueError:
        raise ValueError(f"{_shown(value)} is no rate; expected {RATE_FORM}") from None
    if not slash or rate.count < 1 or rate.period_s <= 0:
        raise ValueError(f"{_shown(value)} is no rate; expected {RATE_FORM}")
    return rate


def format_duration(seconds: float) -> str:
    """Return the shortest exact form (`90s`, `10m`, `250ms`); parts of a millisecond are rounded away."""
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        size = round(_SECONDS[unit] * 1000)
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    if milliseconds > 1000:
        return f"{milliseconds / 1000:g}s"
    return f"{milliseconds}ms" if milliseconds else "0s"


def format_size(size: int) -> str:
    """Return the size in its largest fitting unit, with one decimal where it is not exact (`512MB`, `1.5GB`)."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size >= _BYTES[unit]:
            return f"{size / _BYTES[unit]:.1f}".removesuffix(".0") + unit
    return f"{size}B"


def _split(value: object) -> tuple[float | None, str]:
    """Return number and unit; the number is None for what is neither text nor a finite number from 0."""
    unit = ""
    if isinstance(value, str):
        match = _NUMBER_AND_UNIT.fullmatch(value)
        value, unit = (match[1], match[2]) if match else (None, "")
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None, ""
    try:
        number = float(value)
    except OverflowError:
        return None, ""
    return (number, unit) if math.isfinite(number) and number >= 0 else (None, "")


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number this large"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
