"""Durations, sizes and rates: what people write is understood, and what is shown can be read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnsync.model import Rate
from fnsync.units import format_duration, format_size, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("1h", 3600),
        ("1d", 86400),
        ("250ms", 0.25),
        (5, 5),
        (0.5, 0.5),
        ("1.5h", 5400),
        (" 2 S ", 2),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "s",
        "-1s",
        "10 minutes",
        "1h30m",
        True,
        None,
        [],
        -1,
        float("nan"),
        float("inf"),
        "1e9s",
        "²s",
        "9" * 400,
        10**400,
        pytest.param(10**5000, id="huge"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_form(bad: object) -> None:
    with pytest.raises(ValueError, match="is no duration; expected a number of seconds"):
        parse_duration(bad)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256MB", 256 * 1024**2),
        ("1GB", 1024**3),
        ("1.5KB", 1536),
        (10, 10),
        ("10", 10),
        ("64KiB", 65536),
        ("2tb", 2 * 1024**4),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("bad", ["", "MB", "1.5", "10 apples", "-1", True, None, {}, -5, 0.5])
def test_what_is_no_size_is_refused_with_the_form(bad: object) -> None:
    with pytest.raises(ValueError, match="is no size; expected a number of bytes"):
        parse_size(bad)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("60/minute", Rate(60, 60)), ("1/second", Rate(1, 1)), ("5/10s", Rate(5, 10)), ("100 / Day", Rate(100, 86400))],
)
def test_rates(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "bad", ["60", "60/", "/minute", "0/minute", "-1/minute", "60/0s", "60/fortnight", 60, None, "x/minute"]
)
def test_what_is_no_rate_is_refused_with_the_form(bad: object) -> None:
    with pytest.raises(ValueError, match="is no rate; expected a count and a period"):
        parse_rate(bad)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(30, "30s"), (90, "90s"), (600, "10m"), (86400, "1d"), (0.25, "250ms"), (0, "0s"), (1.25, "1.25s"), (7200, "2h")],
)
def test_durations_are_shown_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (512 * 1024**2, "512MB"), (3 * 1024**3 // 2, "1.5GB"), (1536, "1.5KB")],
)
def test_sizes_are_shown_short(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(min_value=0, max_value=10**9))
def test_a_shown_duration_reads_back_as_the_same(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.integers())))
def test_nothing_but_value_error_ever_leaves_a_parser(value: object) -> None:
    for parse in (parse_duration, parse_size, parse_rate):
        try:
            parse(value)
        except ValueError as exc:
            assert "expected" in str(exc)
