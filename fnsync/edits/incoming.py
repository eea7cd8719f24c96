"""The functions of another repository's commit, as they would be here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fnsync.errors import Invalid, NotFound, SourceError
from fnsync.git.origins import Source
from fnsync.model import FunctionId, Part, Problem, Unit
from fnsync.places import own_folder, settings_of
from fnsync.source import files
from fnsync.source.catalog import Catalog
from fnsync.source.discovery import id_of
from fnsync.source.reading import SETTINGS_BYTES, TOTAL_BYTES
from fnsync.units import format_size

#: All files of one edit together: they are held in memory, and in its journal.
MOST_BYTES = 64 * 1024**2
MOST_FUNCTIONS = 10_000

_OWN = "function/"


@dataclass(frozen=True, slots=True)
class IncomingFunction:
    """A function, under the name that it gets here."""

    unit: Unit
    #: Its source and what lies beside it, by path from the functions folder.
    files: Mapping[str, bytes]
    #: The text of its settings file; None: it has none.
    settings: bytes | None

    @property
    def id(self) -> FunctionId:
        return self.unit.id

    @property
    def path(self) -> str:
        """Of its source."""
        return self.unit.path


@dataclass(frozen=True, slots=True)
class Incoming:
    """What is to be copied."""

    source: Source
    functions: tuple[IncomingFunction, ...]
    #: The shared modules that these use, by path from the functions folder; they keep their names.
    shared: Mapping[str, bytes] = field(default_factory=dict)
    #: Python files that hold no function.
    skipped: tuple[str, ...] = ()
    #: What looks like a function or a part of one and cannot be; it is left out.
    refused: tuple[Problem, ...] = ()
    #: Functions whose files cannot be read whole.
    unreadable: tuple[Unit, ...] = ()


def read(folder: Path, only: str | None, source: Source) -> Incoming:
    """Read a commit's files; `only`: the function whose source that is, from `folder`. Nothing is executed; blocking.

    Raises NotFound where there is no function, Invalid for too much.
    """
    catalog = Catalog(folder)
    catalog.refresh(None)
    units = [unit for path, unit in sorted(catalog.units.items()) if only is None or path == only]
    skipped = [unit.path for unit in units if unit.problem is not None and unit.problem.code == "no_class"]
    wanted = [unit for unit in units if unit.path not in skipped or unit.path == only]
    refused = tuple(one for one in catalog.refused if only is None or one.path == only)
    if not wanted and not refused:
        where = f"{source.path or 'the repository'} at {source.commit[:12]}"
        held = f"; {', '.join(skipped[:5])} hold none" if skipped else ""
        raise NotFound(f"there is no function in {where}{held}", hint="name the folder, or the file, with path")
    if len(wanted) > MOST_FUNCTIONS:
        raise Invalid(f"{len(wanted):,} functions are more than the {MOST_FUNCTIONS:,} that are taken at once")
    return _Reading(folder, source).run(wanted, tuple(skipped), refused)


class _Reading:
    def __init__(self, folder: Path, source: Source) -> None:
        self._folder = folder
        self._source = source
        self._left = MOST_BYTES
        self._shared: dict[str, bytes] = {}

    def run(self, units: list[Unit], skipped: tuple[str, ...], refused: tuple[Problem, ...]) -> Incoming:
        functions = tuple(self._function(unit) for unit in units if unit.revision is not None)
        unreadable = tuple(self._named(unit) for unit in units if unit.revision is None)
        return Incoming(self._source, functions, self._shared, skipped, refused, unreadable)

    def _function(self, unit: Unit) -> IncomingFunction:
        source = renamed(unit.path, self._source.prefix)
        own: dict[str, bytes] = {}
        parts = []
        for part in unit.parts:
            if part.place.startswith(_OWN):
                path = _moved(part.path, unit.path, source)
                own[path] = self._load(part.path, TOTAL_BYTES)
            else:
                path = part.path
                if path not in self._shared:
                    self._shared[path] = self._load(path, TOTAL_BYTES)
            parts.append(Part(path, part.place, part.digest))
        settings = None if unit.settings_path is None else self._load(unit.settings_path, SETTINGS_BYTES)
        here = replace(
            unit,
            id=id_of(source),
            path=source,
            parts=tuple(parts),
            settings_path=None if settings is None else settings_of(source),
            stamps={},
        )
        return IncomingFunction(here, own, settings)

    def _named(self, unit: Unit) -> Unit:
        source = renamed(unit.path, self._source.prefix)
        return replace(unit, id=id_of(source), path=source)

    def _load(self, path: str, limit: int) -> bytes:
        try:
            data = files.load(self._folder, path, limit).data
        except SourceError as exc:  # it was read a moment ago, and nobody else has the folder
            raise Invalid(str(exc), hint=exc.hint) from exc
        self._left -= len(data)
        if self._left < 0:
            raise Invalid(
                f"the functions have more than the {format_size(MOST_BYTES)} that are copied at once",
                hint="copy fewer of them with path, or follow the repository (mode: mirror)",
            )
        return data


def renamed(path: str, prefix: str) -> str:
    """The source's path with `prefix` before the name that its id is made of."""
    named = own_folder(path) or path
    around, _, name = named.rpartition("/")
    return (f"{around}/" if around else "") + prefix + name + path[len(named) :]


def _moved(path: str, before: str, source: str) -> str:
    """Where a file of the function goes whose source was at `before`."""
    folder, there = own_folder(before), own_folder(source)
    return source if folder is None or there is None else there + path[len(folder) :]
