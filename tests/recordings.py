"""Recorded exchanges as test data: what an answer has to be, with placeholders and with differences on purpose."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

#: What a recording left out, or what two servers cannot have in common.
_PLACEHOLDER = re.compile(r"<(?:uuid|output-id)-\d+>|<(?:epoch|admin-id|user-id|path)>")
#: These stand for one value in all of a recording; it is learned where it first appears.
_LEARNED = re.compile(r"<(?:uuid-\d+|admin-id|user-id)>")


#: Scenario and number of an exchange that no longer differs.
STALE = "{}[{}] is answered as it was recorded: take it out of INTENDED"


@dataclass(frozen=True)
class Ours:
    """What fnsync answers instead of what was recorded; `reason` is for the reader."""

    reason: str
    status: int = 200
    #: None: as recorded.
    json: Any = None
    #: The events of a stream.
    sse: list[Any] | None = None
    #: Patterns of places that are not compared.
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fields:
    """As recorded, but for the fields whose place matches one of the patterns."""

    reason: str
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    """An exchange that has no counterpart here."""

    reason: str


class _Anything:
    """Equal to whatever is there."""

    def __repr__(self) -> str:
        return "…"


ANY: Any = _Anything()


@dataclass
class Recall:
    """The values that placeholders were found to stand for."""

    values: dict[str, str] = field(default_factory=dict)

    def filled(self, value: Any) -> Any:
        """A request's part with what is known in place of placeholders."""
        if isinstance(value, str):
            return _LEARNED.sub(lambda match: self.values.get(match[0], match[0]), value)
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        return value

    def is_same(self, placeholder: str, actual: Any) -> bool:
        """Whether a value is the one that the placeholder stands for; the first one is taken as it is."""
        return isinstance(actual, str) and self.values.setdefault(placeholder, actual) == actual


def differences(expected: Any, actual: Any, place: str = "", recall: Recall | None = None) -> list[str]:
    """Return where two JSON values differ; placeholders of the recordings stand for any value of their kind."""
    if expected is ANY:
        return []
    if expected == "<epoch>":
        return [] if isinstance(actual, int) else [f"{place}: expected seconds, got {actual!r}"]
    if isinstance(expected, dict) and isinstance(actual, dict):
        missing = [f"{place}.{key}: missing" for key in expected.keys() - actual.keys()]
        more = [f"{place}.{key}: not expected: {actual[key]!r}" for key in actual.keys() - expected.keys()]
        shared = expected.keys() & actual.keys()
        inner = [d for key in shared for d in differences(expected[key], actual[key], f"{place}.{key}", recall)]
        return missing + more + inner
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return [f"{place}: {len(expected)} items expected, got {len(actual)}: {actual!r}"]
        pairs = enumerate(zip(expected, actual, strict=True))
        return [d for at, (one, other) in pairs for d in differences(one, other, f"{place}[{at}]", recall)]
    if recall is not None and isinstance(expected, str) and _LEARNED.fullmatch(expected):
        return [] if recall.is_same(expected, actual) else [f"{place}: {expected} is now {actual!r}"]
    if _is_object(expected) and _is_object(actual):
        return differences(json.loads(expected), json.loads(actual), place, recall)
    if isinstance(expected, str) and isinstance(actual, str) and _PLACEHOLDER.search(expected):
        parts = _PLACEHOLDER.split(expected)
        pattern = r"[\w-]+".join(map(re.escape, parts))
        return [] if re.fullmatch(pattern, actual) else [f"{place}: expected {expected!r}, got {actual!r}"]
    same = expected == actual and type(expected) is type(actual)
    return [] if same else [f"{place}: expected {expected!r}, got {actual!r}"]


def _is_object(value: Any) -> bool:
    """Whether it is text that a pipe made of an object, to report what it was given."""
    return isinstance(value, str) and value.startswith('{"') and value.endswith("}") and value.isascii()
