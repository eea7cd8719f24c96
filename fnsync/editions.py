"""What a function is at one version, as callers are shown it, and how two of them differ."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fnsync import labels
from fnsync.errors import SourceError
from fnsync.git.contents import VersionFiles
from fnsync.model import Frontmatter, Settings, display_name
from fnsync.places import MAIN
from fnsync.plan import meta_of
from fnsync.source import frontmatter
from fnsync.source.discovery import id_of

#: The names of the two sources in a diff.
BEFORE, AFTER = "selected.py", "production.py"


@dataclass(frozen=True, slots=True)
class Edition:
    """Name, meta and files of a function."""

    name: str
    #: As in the row, without `manifest` and `toggle`: `description` and any other keys.
    meta: Mapping[str, Any]
    #: `main.py` is the source, whatever its name; the others by their path beside it.
    files: Mapping[str, bytes]

    @property
    def content(self) -> str:
        """The source's text, with replacement characters where it is no UTF-8."""
        return self.files[MAIN].decode(errors="replace").removeprefix("\ufeff")


def edition(source: str, files: VersionFiles) -> Edition:
    """The edition of files that lay at `source`."""
    said = labels.read(files.settings or b"")
    found = _frontmatter(files.files[MAIN].decode(errors="replace").removeprefix("\ufeff"))
    return Edition(
        name=display_name(id_of(source), found, Settings(name=said.name)),
        meta=meta_of(found, said.meta),
        files=files.files,
    )


def difference(before: Edition, after: Edition, names: tuple[str, str] = (BEFORE, AFTER)) -> dict[str, Any]:
    """How two editions differ, in the form in which the Functions API tells it; `names` are those of the two sources.

    `metadata` has `name` and `meta` where they differ; `content_diff` is a unified diff, of the source first, without
    a newline at its end; `line_endings_only` says that files differ, but no line does.
    """
    pairs = {"name": (before.name, after.name), "meta": (dict(before.meta), dict(after.meta))}
    places = sorted(before.files.keys() | after.files.keys(), key=lambda place: (place != MAIN, place))
    changed = [place for place in places if before.files.get(place) != after.files.get(place)]
    lines = [line for place in changed for line in _lines(place, names, before, after)]
    return {
        "metadata": {key: {"before": old, "after": new} for key, (old, new) in pairs.items() if old != new},
        "content_diff": "\n".join(lines),
        "line_endings_only": bool(changed) and not lines,
    }


def _frontmatter(text: str) -> Frontmatter:
    try:
        return frontmatter.parse(text)
    except SourceError:
        return Frontmatter()


def _lines(place: str, sources: tuple[str, str], was: Edition, now: Edition) -> Iterator[str]:
    """The diff of a file that differs; nothing if only the ends of its lines do."""
    before, after = was.files.get(place), now.files.get(place)
    names = sources if place == MAIN else (place, place)
    try:
        old, new = ((data or b"").decode().splitlines() for data in (before, after))
    except UnicodeDecodeError:
        yield f"Binary files {names[0]} and {names[1]} differ"
        return
    if old == new and (before is None or after is None):  # an empty file that came or went
        yield from (f"--- {names[0]}", f"+++ {names[1]}")
    yield from difflib.unified_diff(old, new, *names, lineterm="")
