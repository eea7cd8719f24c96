"""Metadata at the top of a source file: Open WebUI's lines or YAML in the docstring, and PEP 723 blocks."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from fnsync import yamltext
from fnsync.errors import SourceError
from fnsync.model import Frontmatter, Problem
from fnsync.source import requirements as requirement_lists
from fnsync.source.requirements import RequirementError

#: The first docstring's opening line; `rest` is what follows the quotes.
_OPENING = re.compile(r"""\s*[rRuU]?(?P<quotes>\"{3}|'{3})(?P<rest>.*)""", re.DOTALL)
_ENTRY = re.compile(r"\s*([A-Za-z_]+):(.*)", re.DOTALL)
_PIPELINE_ENTRY = re.compile(r"\s*([A-Za-z_]+)\s*:(.*)", re.DOTALL)
#: A source of the Pipelines server, whose keys may be written in capitals, and begin right behind the quotes.
_PIPELINE = re.compile(r"^class[ \t]+Pipeline\b", re.MULTILINE)
_OTHERS = re.compile(r"^class[ \t]+(?:Pipe|Filter|Action|Event)\b", re.MULTILINE)
_BLOCK_START = re.compile(r"# /// script\s*")
_TOML_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")

Numbered = tuple[int, str]


def parse(text: str) -> Frontmatter:
    """Return the metadata of a source text; form `none` if it has none.

    Raises SourceError (code `frontmatter`), with the line, for a YAML block that is no YAML mapping, a PEP 723
    block that is no TOML, and an entry in a list of requirements that is none.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    is_pipeline = _PIPELINE.search(text) is not None and _OTHERS.search(text) is None
    form, entries, listed = _docstring(lines, is_pipeline=is_pipeline)
    block = _script_block(lines)
    dependencies, requires_python = ((), None) if block is None else _script(block)
    return Frontmatter(
        form=form,
        entries=entries,
        requirements=requirement_lists.unique((*listed, *dependencies)),
        requires_python=requires_python,
    )


# ---- the docstring ---------------------------------------------------------------------------------------


def _docstring(lines: Sequence[str], *, is_pipeline: bool) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """Return form, entries and requirements."""
    index = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), None)
    opening = None if index is None else _OPENING.fullmatch(lines[index])
    if index is None or opening is None:
        return "none", {}, ()
    quotes, rest = opening["quotes"], opening["rest"].strip()
    if rest.partition(quotes)[1]:
        return "none", {}, ()
    body = list(_until(quotes, lines, index + 1))
    if (rest or next((line.strip() for _, line in body if line.strip()), "")) == "---":
        end = index + 1 + len(body)
        closing = [(end + 1, lines[end].partition(quotes)[0])] if end < len(lines) else []
        return _yaml_form([(index + 1, rest), *body, *closing])
    if rest and is_pipeline:
        body = [(index + 1, rest), *body]
    return ("none", {}, ()) if rest and not is_pipeline else _line_form(body, is_pipeline=is_pipeline)


def _until(quotes: str, lines: Sequence[str], start: int) -> Iterator[Numbered]:
    """The lines before the one that holds the closing quotes, with their numbers. What stands before the quotes
    on that last line is dropped, as in Open WebUI."""
    for index in range(start, len(lines)):
        if quotes in lines[index]:
            return
        yield index + 1, lines[index]


def _line_form(body: Sequence[Numbered], *, is_pipeline: bool) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    entries: dict[str, Any] = {}
    places: dict[str, int] = {}
    for number, line in body:
        if match := (_PIPELINE_ENTRY if is_pipeline else _ENTRY).fullmatch(line):
            key = match[1].lower() if is_pipeline else match[1]
            entries[key] = match[2].strip()
            places[key] = number
    return (
        "line" if entries else "none",
        entries,
        _requirements(entries.get("requirements", ""), places.get("requirements")),
    )


def _yaml_form(body: Sequence[Numbered]) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    marks = [i for i, (_, line) in enumerate(body) if line.strip() == "---"]
    first = body[marks[0]][0]
    if len(marks) < 2:
        raise _error("the frontmatter opens with --- and has no second --- that closes it", first)
    text = "\n".join(line for _, line in body[marks[0] + 1 : marks[1]])
    try:
        value = yamltext.load(text)
    except yamltext.YamlError as exc:
        raise _error(f"the frontmatter is no YAML: {exc.message}", first + (exc.line or 1), exc.column) from exc
    if value is None:
        return "yaml", {}, ()
    if not isinstance(value.data, dict):
        raise _error("the frontmatter is no YAML mapping; expected `key: value` lines", first + value.line)
    listed = value.data.get("requirements")
    return "yaml", _texts(value), () if listed is None else _yaml_requirements(listed, first)


def _texts(value: yamltext.Value) -> Any:
    """The plain data with numbers as they were written: a version 1.10 is not 1.1."""
    if isinstance(value.data, dict):
        return {name: _texts(item) for name, item in value.data.items()}
    if isinstance(value.data, list):
        return [_texts(item) for item in value.data]
    is_number = isinstance(value.data, int | float) and not isinstance(value.data, bool)
    return value.text if is_number else value.data


def _yaml_requirements(value: yamltext.Value, offset: int) -> tuple[str, ...]:
    if not isinstance(value.data, list):
        return _requirements(_texts(value), offset + value.line)
    return tuple(entry for item in value.data for entry in _requirements(_texts(item), offset + item.line))


def _requirements(value: Any, line: int | None) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, str):
        raise _error("requirements: expected a list of texts, or one text with commas", line)
    try:
        return requirement_lists.split(value)
    except RequirementError as exc:
        raise _error(str(exc), line) from exc


# ---- PEP 723 ---------------------------------------------------------------------------------------------


def _script_block(lines: Sequence[str]) -> Sequence[Numbered] | None:
    """The content of the `# /// script` block, without its comment signs; None if there is none."""
    blocks = []
    index = 0
    while index < len(lines):
        if _BLOCK_START.fullmatch(lines[index]):
            content = list(_comments(lines, index + 1))
            # The last closing line of the run of comments counts.
            end = next((i for i in range(len(content) - 1, -1, -1) if content[i][1] == "///"), None)
            if end is not None:
                blocks.append(content[:end])
                index += end + 1
        index += 1
    if len(blocks) > 1:
        raise _error("two `# /// script` blocks; expected one", blocks[1][0][0] if blocks[1] else None)
    return blocks[0] if blocks else None


def _comments(lines: Sequence[str], start: int) -> Iterator[Numbered]:
    for index in range(start, len(lines)):
        line = lines[index].rstrip()
        if line != "#" and not line.startswith("# "):
            return
        yield index + 1, line[2:]


def _script(block: Sequence[Numbered]) -> tuple[tuple[str, ...], str | None]:
    """Return dependencies and requires-python."""
    first = block[0][0] if block else 1
    source = "\n".join(line for _, line in block)
    try:
        data = tomllib.loads(source)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as exc:
        place = _TOML_PLACE.search(str(exc))
        line = first + int(place[1]) - 1 if place else first
        message = _TOML_PLACE.sub("", str(exc)).strip() or type(exc).__name__
        raise _error(f"the `# /// script` block is no TOML: {message}", line) from exc
    return (
        tuple(_dependencies(data.get("dependencies", []), block)),
        _requires_python(data.get("requires-python"), block),
    )


def _dependencies(value: Any, block: Sequence[Numbered]) -> Iterator[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise _error("dependencies: expected a list of texts", _line_with("dependencies", block))
    for entry in value:
        try:
            checked = requirement_lists.check(entry)
        except RequirementError as exc:
            raise _error(str(exc), _line_with(entry, block)) from exc
        if checked is not None:
            yield checked


def _requires_python(value: Any, block: Sequence[Numbered]) -> str | None:
    if value is None:
        return None
    try:
        SpecifierSet(value)
    except (InvalidSpecifier, TypeError, AttributeError) as exc:
        message = f"requires-python: {value!r} is no version specifier such as >=3.11"
        raise _error(message, _line_with("requires-python", block)) from exc
    return str(value)


def _line_with(text: str, block: Sequence[Numbered]) -> int:
    return next((number for number, line in block if text in line), block[0][0] if block else 1)


def _error(message: str, line: int | None, column: int | None = None) -> SourceError:
    return SourceError(Problem(code="frontmatter", message=message, line=line, column=column))
