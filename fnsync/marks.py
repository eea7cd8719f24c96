"""YAML text as plain data together with the line of each key and list item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

#: Keys and list indices from the top down to a value.
Loc = tuple[str | int, ...]

#: Deeper nesting is a mistake, or an anchor that holds itself.
MAX_DEPTH = 32
#: Plain keys, and the << that merges another mapping. YAML reads a bare `on` or `no` as a truth value.
_KEY_TAGS = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"})


class MarkError(Exception):
    """Text that is no YAML, or says one thing twice. `line` counts from 1; None: not known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True)
class Marked:
    data: Any = None
    #: Where a key or an item stands, from 1; () is the whole.
    lines: Mapping[Loc, int] = field(default_factory=dict)

    def line(self, loc: Loc) -> int | None:
        """The line of the value, or of the nearest one around it."""
        return next((self.lines[loc[:end]] for end in range(len(loc), -1, -1) if loc[:end] in self.lines), None)


def read(text: str) -> Marked:
    """Return the one document of `text`; an empty text has the data None. Raises MarkError."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Marked()
            lines: dict[Loc, int] = {}
            _walk(node, (), node.start_mark.line + 1, lines)
            return Marked(loader.construct_document(node), lines)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        message = ", ".join(part for part in (exc.context, exc.problem) if part)
        raise MarkError(message, mark.line + 1 if mark else None) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise MarkError(f"the character U+{ord(text[exc.position]):04X} is not allowed", line) from exc
    except (ValueError, LookupError, OverflowError) as exc:  # a date or number of the right form that does not exist
        raise MarkError(str(exc)) from exc


def _walk(node: yaml.Node, loc: Loc, line: int, lines: dict[Loc, int]) -> None:
    """Note the lines of a node and all below it. Raises MarkError for a key given twice."""
    if len(loc) > MAX_DEPTH:
        raise MarkError(f"nested more than {MAX_DEPTH} deep", line)
    lines[loc] = line
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*loc, index), item.start_mark.line + 1, lines)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            key_line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _KEY_TAGS:
                shown = key.value if isinstance(key, yaml.ScalarNode) else "[...]"
                raise MarkError(f"the key {shown} does not read as text; put it in quotes", key_line)
            name = str(key.value)
            if name != "<<" and name in seen:
                raise MarkError(f"the key {name} is there twice; it was first given in line {seen[name]}", key_line)
            seen[name] = key_line
            _walk(value, (*loc, name), key_line, lines)
