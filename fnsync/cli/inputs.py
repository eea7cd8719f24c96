"""What `fnsync import` is given: an export, a source or a Pipelines server's folder, as the entries of an export."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fnsync.edits.exports import functions_in, named
from fnsync.edits.fetching import fetch, name_of
from fnsync.errors import Invalid, SourceError
from fnsync.model import Kind
from fnsync.places import MAIN
from fnsync.source import frontmatter
from fnsync.source.decoding import decode
from fnsync.source.inspection import inspect
from fnsync.source.reading import SOURCE_BYTES

#: Largest export that is read; as much as a server takes, unless its `server.max_body` says otherwise.
MOST_BYTES = 64 * 1024**2
#: Largest valves.json.
VALVES_BYTES = 256 * 1024
STDIN = "-"

#: What a Pipelines server looks for in a source.
_CLASS = "Pipeline"


@dataclass(slots=True)
class Gathered:
    """What was found."""

    #: Where, for the commit's message; no secret of an address is in it.
    origin: str
    #: Entries of an export, not looked into yet.
    entries: list[Any] = field(default_factory=list)
    #: What was not even an entry -> why.
    refused: list[tuple[str, str]] = field(default_factory=list)


def gather(target: str) -> Gathered:
    """Read a file, an address, a folder, or with `-` stdin. Raises Invalid, TimeLimit, SourceError."""
    if target == STDIN:
        return _parsed(_stdin(), "stdin", None)
    if target.startswith(("http://", "https://")):
        return _fetched(target)
    path = Path(target)
    try:
        if path.is_dir():
            return _folder(path)
        return _parsed(_read(path, MOST_BYTES), path.name, path)
    except OSError as exc:
        raise Invalid(
            f"{target} cannot be read: {exc.strerror or exc}", hint="give a file, a folder or an address"
        ) from exc


# ---- exports and sources ---------------------------------------------------------------------------------


def _parsed(data: bytes, name: str, path: Path | None) -> Gathered:
    text = decode(data, name)
    if path is None or path.suffix == ".py":
        is_source = path is not None or text.lstrip()[:1] not in ("[", "{")
        if is_source:
            return Gathered(name, [_entry(text, None if path is None else _stem(path))])
    return _export(text, name)


def _export(text: str, name: str) -> Gathered:
    try:
        found = functions_in(json.loads(text))
    except json.JSONDecodeError as exc:
        raise Invalid(f"{name} is no export: {exc.msg} in line {exc.lineno}, column {exc.colno}") from exc
    except RecursionError as exc:
        raise Invalid(f"{name} is no export: it is nested too deeply") from exc
    except Invalid as exc:
        raise Invalid(f"{name} is no export: {exc.message}", hint=exc.hint) from exc
    gathered = Gathered(name)
    for place, entry in enumerate(found):
        problem = _unsendable(entry)
        if problem is None:
            gathered.entries.append(entry)
        else:
            gathered.refused.append((named(entry) or f"functions[{place}]", problem))
    return gathered


def _unsendable(entry: Any) -> str | None:
    """Why an entry is no JSON although Python reads it; None: it is."""
    fields = entry.items() if isinstance(entry, dict) else [("the entry", entry)]
    for key, value in fields:
        try:
            json.dumps({key: value}, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            return f"{key!a}: half of a surrogate pair is no text"
        except ValueError:
            return f"{key}: a number that is none"
        except RecursionError:
            return f"{key}: nested too deeply"
    return None


def _entry(text: str, name: str | None, **more: Any) -> dict[str, Any]:
    """A source as an entry. Its frontmatter may suggest an id. Raises Invalid where nothing does."""
    try:
        suggested = frontmatter.parse(text).entries.get("id")
    except SourceError:
        suggested = None  # loading will tell what is wrong with it
    id = suggested if isinstance(suggested, str) and suggested.isidentifier() else name
    if not id:
        raise Invalid(
            "nothing says what the function is called", hint="give its frontmatter an `id: …`, or give a file"
        )
    return {"id": id, "content": text, **more}


def _stem(path: Path) -> str:
    return path.absolute().parent.name if path.name == MAIN else path.stem


# ---- where they are --------------------------------------------------------------------------------------


def _stdin() -> bytes:
    stream = getattr(sys.stdin, "buffer", None)
    data: bytes = sys.stdin.read().encode() if stream is None else stream.read(MOST_BYTES + 1)
    return _bounded(data, "stdin", MOST_BYTES)


def _fetched(url: str) -> Gathered:
    fetched = asyncio.run(fetch(url, MOST_BYTES))
    is_export = name_of(url) is None and fetched.content.lstrip()[:1] in ("[", "{")
    if is_export:
        return _export(fetched.content, fetched.origin)
    return Gathered(fetched.origin, [_entry(fetched.content, fetched.name)])


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return _bounded(file.read(most + 1), path.name, most)


def _bounded(data: bytes, name: str, most: int) -> bytes:
    if len(data) > most:
        raise Invalid(f"{name} is larger than {most:,} bytes")
    return data


# ---- folders of a Pipelines server -----------------------------------------------------------------------


def _folder(folder: Path) -> Gathered:
    """Every source directly in it, as its server takes them, with the values stored beside it."""
    gathered = Gathered(folder.absolute().name)
    for path in _sources(folder):
        try:
            gathered.entries.append(_pipeline(path))
        except (Invalid, SourceError) as exc:
            gathered.refused.append((path.name, exc.message))
        except OSError as exc:
            gathered.refused.append((path.name, f"it cannot be read: {exc.strerror or exc}"))
    if not gathered.entries and not gathered.refused:
        raise Invalid(f"{folder} holds no sources (*.py)", hint="give the folder that a Pipelines server loads")
    return gathered


def _sources(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*.py")) if path.is_file())


def _pipeline(path: Path) -> dict[str, Any]:
    """A pipeline, which that server runs, so it is active. Raises Invalid, SourceError."""
    text = decode(_read(path, SOURCE_BYTES), path.name)
    try:
        found = inspect(text, path.name, helpers=frozenset(), shared=frozenset())
    except SourceError:
        found = None  # loading will tell where it is wrong
    if found is not None and found.kind is not Kind.PIPELINE and _CLASS not in found.classes:
        raise Invalid(f"it holds no class {_CLASS} (found: {', '.join(found.classes[:5]) or 'no class'})")
    return {
        "id": path.stem,
        "content": text,
        "is_active": True,
        "valves": _valves(path.with_suffix("") / "valves.json"),
    }


def _valves(path: Path) -> dict[str, Any] | None:
    """What a Pipelines server stored. Raises Invalid."""
    name = f"{path.parent.name}/{path.name}"
    try:
        found = json.loads(decode(_read(path, VALVES_BYTES), name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as exc:
        raise Invalid(f"{name} is no JSON") from exc
    if not isinstance(found, dict):
        raise Invalid(f"{name} holds no object")
    problem = _unsendable(found)
    if problem is not None:
        raise Invalid(f"{name}: {problem}")
    return found
