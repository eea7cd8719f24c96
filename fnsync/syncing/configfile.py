"""Changes the list of sources in a configuration file. All else in it stays as it is, byte for byte. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fnsync.errors import ConfigError, Conflict, NotFound

KEY = "sources"
_BOM = "\ufeff"


def added(text: str, entry: Mapping[str, Any]) -> str:
    """The text with one more source. Raises Conflict if the name is taken, ConfigError."""
    sources = _plain(text)
    if any(one.get("name") == entry["name"] for one in sources):
        raise Conflict(
            f"there is a source {entry['name']} already", hint=f"first: fnsync source remove {entry['name']}"
        )
    return _checked(text, _add(text, entry, sources), [*sources, dict(entry)])


def removed(text: str, name: str) -> str:
    """The text without a source. Raises NotFound, ConfigError."""
    sources = _plain(text)
    place = _place(sources, name)
    rest = sources[:place] + sources[place + 1 :]
    return _checked(text, _remove(text, place, rest), rest)


def amended(text: str, name: str, key: str, value: Any) -> str:
    """The text with a key of a source set. Raises NotFound, ConfigError."""
    sources = _plain(text)
    place = _place(sources, name)
    changed = {**sources[place], key: value}
    if changed == sources[place]:
        return text
    wanted = [*sources[:place], changed, *sources[place + 1 :]]
    return _checked(text, _amend(text, place, key, changed), wanted)


# ---- the text --------------------------------------------------------------------------------------------


def _add(text: str, entry: Mapping[str, Any], sources: list[dict[str, Any]]) -> str:
    listed = _list(text)
    if listed is None:
        lines = _whole(text.splitlines(keepends=True), len(text.splitlines()))
        empty = next((key for key, _ in _root(text) if key.value == KEY), None)
        if empty is None:
            return f"{''.join(lines)}{KEY}:\n{_block([entry], 2)}"
        after = empty.start_mark.line + 1
        return "".join((*lines[:after], _block([entry], 2), *lines[after:]))
    if listed.flow_style or not listed.value:
        return _replaced(text, listed, [*sources, entry])
    last = listed.value[-1]
    after = _last_line(last) + 1
    lines = _whole(text.splitlines(keepends=True), after)
    return "".join((*lines[:after], _block([entry], _dash(lines, last)), *lines[after:]))


def _remove(text: str, place: int, rest: list[dict[str, Any]]) -> str:
    listed = _list(text)
    assert listed is not None
    lines = text.splitlines(keepends=True)
    if not rest:
        key = next(key for key, _ in _root(text) if key.value == KEY)
        return "".join((*lines[: key.start_mark.line], *lines[_last_line(listed) + 1 :]))
    if listed.flow_style:
        return _replaced(text, listed, rest)
    item = listed.value[place]
    return "".join((*lines[: item.start_mark.line], *lines[_last_line(item) + 1 :]))


def _amend(text: str, place: int, key: str, changed: Mapping[str, Any]) -> str:
    listed = _list(text)
    assert listed is not None
    item = listed.value[place]
    if item.flow_style:
        return text[: item.start_mark.index] + _flow(changed) + text[item.end_mark.index :]
    old = next((value for name, value in item.value if name.value == key), None)
    if isinstance(old, yaml.ScalarNode):
        return text[: old.start_mark.index] + _flow(changed[key]) + text[old.end_mark.index :]
    after = _last_line(item) + 1
    lines = _whole(text.splitlines(keepends=True), after)
    line = f"{' ' * item.start_mark.column}{key}: {_flow(changed[key])}\n"
    return "".join((*lines[:after], line, *lines[after:]))


def _whole(lines: list[str], count: int) -> list[str]:
    """The lines, with a newline at the end of the last of the first `count`."""
    if 0 < count <= len(lines) and not lines[count - 1].endswith("\n"):
        lines[count - 1] += "\n"
    return lines


def _replaced(text: str, listed: yaml.SequenceNode, wanted: list[Any]) -> str:
    rest = text[listed.end_mark.index :]
    end = "" if rest.startswith("\n") or not rest else "\n"
    return text[: listed.start_mark.index].rstrip(" ") + "\n" + _block(wanted, 2).rstrip("\n") + end + rest


def _block(items: list[Any], indent: int) -> str:
    dumped = yaml.safe_dump(items, sort_keys=False, allow_unicode=True, width=float("inf"))
    return "".join(" " * indent + line for line in dumped.splitlines(keepends=True))


def _flow(value: Any) -> str:
    dumped = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=float("inf"), default_flow_style=True)
    return dumped.removesuffix("...\n").strip()


# ---- where things are ------------------------------------------------------------------------------------


def _root(text: str) -> list[tuple[yaml.Node, yaml.Node]]:
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as exc:
        raise ConfigError(f"the configuration file is no YAML: {exc}") from exc
    if node is None:
        return []
    if not isinstance(node, yaml.MappingNode) or (node.flow_style and node.value):
        raise ConfigError("the configuration file must consist of keys", hint="add the source by hand")
    return [] if node.flow_style else node.value


def _list(text: str) -> yaml.SequenceNode | None:
    found = next((value for key, value in _root(text) if key.value == KEY), None)
    if isinstance(found, yaml.SequenceNode):
        return found
    if found is None or found.tag == "tag:yaml.org,2002:null":  # all entries are commented out
        return None
    raise ConfigError("sources: must be a list")


def _last_line(node: yaml.Node) -> int:
    """The last line with something of a node; its own end is where the next begins."""
    return max(end.line - (end.column == 0 and end.line > start.line) for start, end in _leaves(node))


def _leaves(node: yaml.Node) -> Iterator[tuple[yaml.Mark, yaml.Mark]]:
    if isinstance(node, yaml.ScalarNode) or getattr(node, "flow_style", False) or not node.value:
        yield node.start_mark, node.end_mark
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _leaves(key)
            yield from _leaves(value)
    else:
        for one in node.value:
            yield from _leaves(one)


def _dash(lines: list[str], item: yaml.Node) -> int:
    """The column of the dash before an item."""
    return lines[item.start_mark.line][: item.start_mark.column].rindex("-")


# ---- what it says ----------------------------------------------------------------------------------------


def _plain(text: str) -> list[dict[str, Any]]:
    listed = _list(text.removeprefix(_BOM))
    if listed is None:
        return []
    found = yaml.safe_load(text.removeprefix(_BOM))[KEY]
    if not all(isinstance(one, dict) for one in found):
        raise ConfigError("sources: each must have keys of its own")
    return list(found)


def _place(sources: list[dict[str, Any]], name: str) -> int:
    for place, one in enumerate(sources):
        if one.get("name") == name:
            return place
    raise NotFound(f"the configuration file has no source {name}")


def _checked(before: str, after: str, wanted: list[dict[str, Any]]) -> str:
    """`after`, if it says what is wanted and otherwise the same as before. Raises ConfigError."""
    try:
        was, now = (yaml.safe_load(text.removeprefix(_BOM)) or {} for text in (before, after))
    except yaml.YAMLError:
        was, now = {}, None
    now = None if now is None else {**now, KEY: now.get(KEY) or []}
    if now != {**was, KEY: wanted}:
        raise ConfigError(
            "the configuration file cannot be changed without changing more of it", hint="change it by hand"
        )
    return re.sub(r"(?<!\r)\n", "\r\n", after) if "\r\n" in before else after
