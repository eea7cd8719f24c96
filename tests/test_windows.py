"""When what was fetched may be applied."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fnsync.config import parse
from fnsync.configgit import Windows
from fnsync.errors import ConfigError
from fnsync.windows import opens_at


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def windows(text: str) -> Windows:
    config = parse(f"repository:\n  windows: {text}\n", {}, root=Path("/"))
    return config.repository.windows


OFFICE = '{allow: [{cron: "0 9 * * MON-FRI", duration: 8h}]}'
FREEZE = '{deny: [{cron: "0 16 * * FRI", duration: 64h}]}'
BOTH = '{allow: [{cron: "0 9 * * MON-FRI", duration: 8h}], deny: [{cron: "0 12 * * *", duration: 1h}]}'


@pytest.mark.parametrize(
    ("text", "now", "opens"),
    [
        ("{}", "2026-11-24T03:00", None),
        (OFFICE, "2026-11-24T09:00", None),  # a Tuesday
        (OFFICE, "2026-11-24T16:59:59", None),
        (OFFICE, "2026-11-24T17:00", "2026-11-25T09:00"),
        (OFFICE, "2026-11-28T12:00", "2026-11-30T09:00"),
        (FREEZE, "2026-11-27T15:59:59", None),
        (FREEZE, "2026-11-27T16:00", "2026-11-30T08:00"),
        (FREEZE, "2026-11-29T00:00:30", "2026-11-30T08:00"),
        (BOTH, "2026-11-24T11:59", None),
        (BOTH, "2026-11-24T12:30", "2026-11-24T13:00"),
        # Denied when it begins to be allowed.
        ('{allow: [{cron: "0 9 * * *", duration: 1h}], deny: [{cron: "30 8 * * *", duration: 1h}]}',
         "2026-11-24T08:00", "2026-11-24T09:30"),
        # Windows that follow each other without a gap.
        ('{deny: [{cron: "0 * * * *", duration: 1h}, {cron: "0 0 1 1 *", duration: 1h}]}', "2026-11-24T08:00", "far"),
        # A beginning that is years away.
        ('{allow: [{cron: "0 0 29 2 *", duration: 1h}]}', "2026-11-24T08:00", "2028-02-29T00:00"),
    ],
)  # fmt: skip
def test_opening(text: str, now: str, opens: str | None) -> None:
    found = opens_at(windows(text), at(now))
    if opens == "far":
        assert found is not None and found > at("2026-12-01T00:00")
    else:
        assert found == (None if opens is None else at(opens))


def test_a_time_zone_counts() -> None:
    there = '{allow: [{cron: "0 9 * * *", duration: 1h, timezone: Asia/Tokyo}]}'
    assert opens_at(windows(there), at("2026-11-24T00:30")) is None
    assert opens_at(windows(there), at("2026-11-24T09:30")) == at("2026-11-25T00:00")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{allow: [{cron: "0 9 * *", duration: 1h}]}', "five fields"),
        ('{allow: [{cron: "0 25 * * *", duration: 1h}]}', "cron expression"),
        ('{allow: [{cron: "0 0 30 2 *", duration: 1h}]}', "cron expression"),
        ('{allow: [{cron: "0 9 * * *", duration: 0s}]}', "longer than 0"),
        ('{deny: [{cron: "0 9 * * *", duration: 1h, timezone: Mars/Base}]}', "time zone"),
    ],
)
def test_a_bad_window_is_told(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        windows(text)
