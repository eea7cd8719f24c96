"""Ranges of versions over tags: `^1.2`, `~1.4.0`, `>=1.0 <2`, `1.x`, `1.2 - 1.4`, `^1 || ^2`. Pure.

Precedence is that of semver.org; the forms are those of npm. Tags may begin with `v`; numbers left out of a tag are 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import total_ordering

_PRE = r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
_VERSION = re.compile(rf"[vV]?(?P<major>\d{{1,9}})(?:\.(?P<minor>\d{{1,9}}))?(?:\.(?P<patch>\d{{1,9}}))?{_PRE}")
_PART = r"(?:\d{1,9}|[xX*])"
_COMPARATOR = re.compile(
    rf"(?P<op>\^|~>?|>=|<=|>|<|=)?\s*[vV]?(?P<major>{_PART})(?:\.(?P<minor>{_PART}))?(?:\.(?P<patch>{_PART}))?{_PRE}"
)
_HYPHEN = re.compile(r"\s+-\s+")
_MAX_CHARS = 256
#: Goes before all versions of its number, pre-releases too.
_LOWEST = "0"


@total_ordering
@dataclass(frozen=True)
class Version:
    """A version; equal ones may be written differently."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()
    #: How many of its numbers were written.
    written: int = field(default=3, compare=False)

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[object, ...]:
        # A pre-release goes before its release; numbers before words, and a shorter list before a longer one.
        pre = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in self.pre)
        return (self.major, self.minor, self.patch, not self.pre, pre)


@dataclass(frozen=True, slots=True)
class Range:
    """Alternatives of bounds, `(operator, version)`, all of which must hold."""

    alternatives: tuple[tuple[tuple[str, Version], ...], ...]

    def has(self, version: Version) -> bool:
        """Whether a version is in it; a pre-release only where the alternative names one."""
        return any(
            (not version.pre or any(_names_pre(op, bound) for op, bound in bounds))
            and all(_holds(op, version, bound) for op, bound in bounds)
            for bounds in self.alternatives
        )


def version_of(tag: str) -> Version | None:
    """What version a tag is; None: none."""
    found = _VERSION.fullmatch(tag)
    if found is None:
        return None
    numbers = [found["major"], found["minor"], found["patch"]]
    major, minor, patch = (int(number or 0) for number in numbers)
    return Version(major, minor, patch, _pre(found), sum(number is not None for number in numbers))


def range_of(text: str) -> Range | None:
    """The range that a text is; None: none."""
    if not text.strip() or len(text) > _MAX_CHARS:
        return None
    alternatives = []
    for alternative in text.split("||"):
        bounds = _alternative(alternative.strip())
        if bounds is None:
            return None
        alternatives.append(bounds)
    return Range(tuple(alternatives))


def newest(tags: Iterable[str], range: Range) -> str | None:
    """The tag with the highest version in a range; of equal ones the one that is written out."""
    found = [(version, version.written, tag) for tag in tags if (version := version_of(tag)) and range.has(version)]
    return max(found)[2] if found else None


def _alternative(text: str) -> tuple[tuple[str, Version], ...] | None:
    ends = _HYPHEN.split(text)
    if len(ends) == 2:
        low, high = _comparator(">=" + ends[0]), _comparator("<=" + ends[1])
        return None if low is None or high is None else (*low, *high)
    bounds: list[tuple[str, Version]] = []
    place = 0
    while place < len(text):
        found = _COMPARATOR.match(text, place)
        if found is None:
            return None
        bounds += _bounds(found)
        place = found.end()
        rest = text[place:]
        if rest and rest[0] not in ", \t<>=^~":
            return None
        place = len(text) - len(rest.lstrip(", \t"))
    return tuple(bounds) if text else None


def _comparator(text: str) -> list[tuple[str, Version]] | None:
    found = _COMPARATOR.fullmatch(text.strip())
    return None if found is None else _bounds(found)


def _bounds(found: re.Match[str]) -> list[tuple[str, Version]]:
    """The bounds that one comparator stands for."""
    numbers: list[int] = []
    for part in (found["major"], found["minor"], found["patch"]):
        if part is None or part in "xX*":
            break
        numbers.append(int(part))
    low = _version(numbers, _pre(found) if len(numbers) == 3 else ())
    op = found["op"] or ("=" if len(numbers) == 3 else "~")
    if not numbers:
        return [(">=", low)] if op not in ("<", ">") else [("<", Version(0, 0, 0, (_LOWEST,)))]
    if op == "^":
        # The first number that is not 0 stays, or the last one written.
        kept = next((place for place, number in enumerate(numbers, 1) if number), len(numbers))
        return [(">=", low), ("<", _after(numbers[:kept]))]
    if op in ("~", "~>") or (op == "=" and len(numbers) < 3):
        return [(">=", low), ("<", _after(numbers[:2]))]
    if op == ">" and len(numbers) < 3:
        return [(">=", _after(numbers, ()))]
    if op == "<=" and len(numbers) < 3:
        return [("<", _after(numbers))]
    if op == "<" and len(numbers) < 3:
        return [("<", Version(low.major, low.minor, low.patch, (_LOWEST,)))]
    return [(op, low)]


def _after(numbers: list[int], pre: tuple[str, ...] = (_LOWEST,)) -> Version:
    """The first version whose leading numbers are higher; with its pre-releases, unless said otherwise."""
    *front, last = numbers
    return _version([*front, last + 1], pre)


def _version(numbers: list[int], pre: tuple[str, ...]) -> Version:
    major, minor, patch = (numbers + [0, 0, 0])[:3]
    return Version(major, minor, patch, pre)


def _names_pre(op: str, bound: Version) -> bool:
    """Whether a bound was written with a pre-release; upper ones may have one that stands for all."""
    return bool(bound.pre) and not (op == "<" and bound.pre == (_LOWEST,))


def _holds(op: str, version: Version, bound: Version) -> bool:
    match op:
        case ">=":
            return version >= bound
        case ">":
            return version > bound
        case "<":
            return version < bound
        case "<=":
            return version <= bound
        case _:
            return version == bound


def _pre(found: re.Match[str]) -> tuple[str, ...]:
    return tuple(found["pre"].split(".")) if found["pre"] else ()
