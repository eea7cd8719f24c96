"""Changes settings files that people edit by hand: comments, order and whatever else is in them stay."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from fnsync import yamltext
from fnsync.errors import Invalid, SourceError
from fnsync.model import REFERENCES, Problem
from fnsync.source import settings
from fnsync.source.reading import SETTINGS_BYTES

#: Settings that are mappings of names of the function's own; they change name by name.
_BY_NAME = frozenset({"valves", "meta"})
#: How much of the name of a valve is told.
_SHOWN_CHARACTERS = 60
#: Long lines stay long.
_WIDTH = 1_000_000
#: Texts that are written without quotes, unless they read as something else.
_PLAIN = re.compile(r"[A-Za-z_](?:[\w ./@-]*[\w./@-])?", re.ASCII)


class _Representer(RoundTripRepresenter):
    """Writes what YAML 1.1 reads back the same."""


def _represent_float(representer: RoundTripRepresenter, value: float) -> Any:
    mantissa, e, exponent = repr(value).partition("e")
    # Without a point, YAML 1.1 takes a number with an exponent for text.
    text = f"{mantissa if '.' in mantissa else mantissa + '.0'}{e}{exponent}"
    return representer.represent_scalar("tag:yaml.org,2002:float", text)


_Representer.add_representer(float, _represent_float)


def amended(text: str, changes: Mapping[str, Any], path: str) -> str:
    """Return the settings file's text with the top-level keys of `changes` set; None takes a key out.

    Values are JSON's. A file that says the same already comes back as it is. Raises SourceError (code `settings`) for
    a text that is no settings file, and where the change cannot be made without changing something else; Invalid for
    values that no settings file can hold.
    """
    settings.parse(text, path)
    _check_depth(changes, yamltext.MAX_DEPTH)
    _check_size(changes, path, sum(_bytes(value) for value in changes.values()))
    plain = _plain(text)
    wanted = {key: value for key, value in {**plain, **changes}.items() if value is not None and value != {}}
    if wanted == {key: value for key, value in plain.items() if value is not None and value != {}}:
        return text
    body = text.removeprefix("\ufeff")
    made = _written(body, wanted, path)
    if "\r\n" in body:
        made = made.replace("\r\n", "\n").replace("\n", "\r\n")
    _check_size(changes, path, _bytes(made))
    try:
        told = _plain(made)
    except yamltext.YamlError as exc:
        raise Invalid(f"{path} cannot hold what it is to say: {exc.message}") from exc
    if {key: value for key, value in told.items() if value is not None and value != {}} != wanted:
        hint = "change it by hand"
        message = "the file cannot be changed without changing other values in it"
        raise SourceError(Problem("settings", message, path, hint=hint))
    try:
        settings.parse(made, path)
    except SourceError as exc:  # the file was good before
        raise Invalid(exc.problem.message, hint=exc.problem.hint) from exc
    return ("\ufeff" if text.startswith("\ufeff") else "") + made


def _check_depth(value: Any, left: int) -> None:
    """Raise Invalid for what is nested deeper than is read back."""
    if left == 0:
        raise Invalid(f"values are nested more than {yamltext.MAX_DEPTH} deep")
    if isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            _check_depth(item, left - 1)


def _check_size(changes: Mapping[str, Any], path: str, size: int) -> None:
    """Raise Invalid, which names the longest of the changes, for more than is read back."""
    if size > SETTINGS_BYTES:
        fields = dict(_fields(changes))
        longest = max(fields, key=lambda field: _bytes(fields[field]))
        raise Invalid(f"{longest}: too long; {path} would be larger than {SETTINGS_BYTES:,} bytes")


def _fields(changes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in changes.items():
        if key in _BY_NAME and isinstance(value, Mapping) and value:
            yield from ((f"{key}.{name[:_SHOWN_CHARACTERS]}", {name: item}) for name, item in value.items())
        else:
            yield key, value


def _bytes(value: Any) -> int:
    """How much of a file the texts of a value take at least."""
    if isinstance(value, str):
        return len(value.encode(errors="surrogatepass"))
    if isinstance(value, Mapping):
        return sum(_bytes(name) + _bytes(item) for name, item in value.items())
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


def _plain(text: str) -> dict[str, Any]:
    value = yamltext.load(text.removeprefix("\ufeff"))
    plain: dict[str, Any] = {} if value is None or value.data is None else value.plain()
    return plain


def _written(text: str, wanted: Mapping[str, Any], path: str) -> str:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    try:
        document = yaml.load(text)
    except YAMLError as exc:
        raise SourceError(Problem("settings", f"the file cannot be changed: {exc}", path)) from exc
    before = _plain(text)
    if not isinstance(document, CommentedMap) or not document:
        comments = text if not before and text.strip() and "{}" not in text else ""
        document = CommentedMap((key, _node(value)) for key, value in _in_order(wanted).items())
        return comments + ("\n" if comments and not comments.endswith("\n") else "") + _dump(yaml, document)
    _set_indent(yaml, document)
    _amend(document, before, wanted, _BY_NAME)
    return _dump(yaml, document) if document else ""


def _amend(node: CommentedMap, before: Mapping[str, Any], wanted: Mapping[str, Any], by_name: frozenset[str]) -> None:
    """Make `node`, which says `before`, say `wanted`; what is equal is not touched."""
    for key in [key for key in node if key not in wanted]:
        del node[key]
    for key, value in wanted.items():
        if key in before and key in node and before[key] == value:
            continue
        inner = node.get(key)
        if key in by_name and isinstance(inner, CommentedMap) and isinstance(value, Mapping):
            _amend(inner, before[key], value, frozenset())
        else:
            node[_text(key)] = _node(value)


def _in_order(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {key: wanted[key] for key in settings.KEYS[""] if key in wanted}


def _dump(yaml: YAML, document: CommentedMap) -> str:
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _set_indent(yaml: YAML, document: CommentedMap) -> None:
    """Indent as the file does, as far as it does so in one way."""
    for around, value in _blocks(document):
        if isinstance(value, CommentedMap):
            yaml.map_indent = value.lc.col - around or 2
        else:
            yaml.sequence_dash_offset = value.lc.col - around
            yaml.sequence_indent = value.lc.col - around + 2


def _blocks(node: CommentedMap) -> Iterator[tuple[int, CommentedMap | CommentedSeq]]:
    """The mappings and lists in block style below a mapping, innermost first, each with the column around it."""
    for value in node.values():
        if isinstance(value, CommentedMap | CommentedSeq) and value and not value.fa.flow_style():
            if isinstance(value, CommentedMap):
                yield from _blocks(value)
            yield node.lc.col, value


def _node(value: Any) -> Any:
    """A value as ruamel writes it so that YAML 1.1, in which `yes` is a truth value, reads it back the same."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        node = CommentedMap((_text(str(key)), _node(item)) for key, item in value.items())
        if not value or (len(value) == 1 and set(value) <= {*REFERENCES}):
            node.fa.set_flow_style()
        return node
    if isinstance(value, list | tuple):
        items = CommentedSeq(_node(item) for item in value)
        if all(not isinstance(item, Mapping | list) for item in value):
            items.fa.set_flow_style()
        return items
    return value


def _text(text: str) -> Any:
    if "\n" in text and _is_block(text):
        return LiteralScalarString(text)
    return text if _reads_as_itself(text) else DoubleQuotedScalarString(text)


def _is_block(text: str) -> bool:
    """Whether a text of several lines can stand as it is: nothing but printable lines, none of which ends in blanks."""
    lines = text.split("\n")
    return all(line.isprintable() and not line.endswith(" ") for line in lines) and not text.startswith((" ", "\n"))


def _reads_as_itself(text: str) -> bool:
    """Whether a text needs no quotes, in a line of its own or within brackets."""
    if not _PLAIN.fullmatch(text):
        return False
    try:
        value = yamltext.load(f"- {text}\n")
    except yamltext.YamlError:  # longer than is read
        return False
    return value is not None and value.plain() == [text]
