"""YAML from outside as plain data: bounded, without aliases, each value with the place it was written at.

Values are JSON's: dates stay text, and so do numbers in frontmatter. libyaml builds nested nodes by recursion
in C, so depth and aliases are checked on the flat stream of events before anything is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Scalars = yaml.SafeLoader

MAX_CHARS = 256 * 1024
MAX_DEPTH = 32

_TAG = "tag:yaml.org,2002:"
_OPENS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSES = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
_INT64 = range(-(2**63), 2**64)


class YamlError(Exception):
    """Text that is not the YAML we take. Line and column count from 1."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Value:
    """A value and where it begins. `data` is a scalar, a list of Value, or a dict of name to Value."""

    data: Any
    line: int
    column: int
    #: For the values of a mapping, where the key begins.
    key_line: int = 0
    key_column: int = 0
    #: A scalar as it was written, without quotes.
    text: str = field(default="", compare=False)

    def plain(self) -> Any:
        """The data without its places."""
        if isinstance(self.data, dict):
            return {name: value.plain() for name, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data


def load(text: str) -> Value | None:
    """Return the one document of `text`, or None if it holds nothing. Raises YamlError."""
    if len(text) > MAX_CHARS:
        raise YamlError(f"{len(text):,} characters, more than the {MAX_CHARS:,} that are read")
    try:
        _check_events(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        return None if node is None else _value(node, node.start_mark)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        message = ", ".join(part for part in (exc.context, exc.problem) if part)
        raise YamlError(message, *((mark.line + 1, mark.column + 1) if mark else ())) from exc
    except yaml.reader.ReaderError as exc:
        line, shown = _first_unreadable(text)
        raise YamlError(f"the character {shown} is not allowed in YAML", line) from exc
    except yaml.YAMLError as exc:
        raise YamlError(str(exc)) from exc
    except UnicodeEncodeError as exc:
        raise YamlError("a half of a surrogate pair is not allowed in YAML") from exc


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise YamlError("aliases (*name) are not read; write the value out", *_place(event.start_mark))
        if isinstance(event, _OPENS):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlError(f"nested more than {MAX_DEPTH} deep", *_place(event.start_mark))
        elif isinstance(event, _CLOSES):
            depth -= 1


def _first_unreadable(text: str) -> tuple[int | None, str]:
    match = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if match is None:
        return None, "here"
    return text.count("\n", 0, match.start()) + 1, f"U+{ord(match[0]):04X}"


def _place(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _value(node: Any, key_mark: Any) -> Value:
    line, column = _place(node.start_mark)
    key_line, key_column = _place(key_mark)
    if isinstance(node, yaml.ScalarNode):
        return Value(_scalar(node), line, column, key_line, key_column, str(node.value))
    if isinstance(node, yaml.SequenceNode):
        if node.tag != _TAG + "seq":
            raise YamlError(f"the tag {node.tag} is not read", line, column)
        return Value([_value(item, item.start_mark) for item in node.value], line, column, key_line, key_column)
    if node.tag != _TAG + "map":
        raise YamlError(f"the tag {node.tag} is not read", line, column)
    return Value(dict(_entries(node)), line, column, key_line, key_column)


def _entries(node: Any) -> Iterator[tuple[str, Value]]:
    seen: dict[str, int] = {}
    for key, value in node.value:
        line, column = _place(key.start_mark)
        if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
            shown = key.value if isinstance(key, yaml.ScalarNode) else "that is a list or a mapping"
            raise YamlError(f"the key {shown} does not read as text; put it in quotes", line, column)
        name = str(key.value)
        if name in seen:
            raise YamlError(f"the key {name} is there twice; it was first given in line {seen[name]}", line, column)
        seen[name] = line
        yield name, _value(value, key.start_mark)


def _scalar(node: Any) -> Any:
    text, tag = node.value, node.tag.removeprefix(_TAG)
    text.encode()  # an escape may have made what no file can hold
    try:
        if tag == "null":
            return None
        if tag == "bool":
            return bool(_Scalars.bool_values[text.lower()])
        if tag == "int":
            return _bounded(_Scalars.construct_yaml_int(_Scalars(""), node))
        if tag == "float":
            return _finite(_Scalars.construct_yaml_float(_Scalars(""), node))
    except (LookupError, ValueError, OverflowError) as exc:
        reason = exc if isinstance(exc, ValueError) else "no such value"
        raise YamlError(f"{text[:60]}: {reason}", *_place(node.start_mark)) from exc
    if tag in ("str", "timestamp", "value", "merge"):
        return text
    raise YamlError(f"the tag {node.tag} is not read", *_place(node.start_mark))


def _bounded(number: int) -> int:
    if number not in _INT64:
        raise ValueError("a number this large is not read; put it in quotes")
    return number


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
