"""Keeps the index in step with how the functions stand, all that waits in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from fnsync.errors import StoreError
from fnsync.model import FunctionId, FunctionRow, Unit
from fnsync.plan import Standing, row_of
from fnsync.provenances import Provenances
from fnsync.source.reading import Reading, read
from fnsync.store.index import Index

log = structlog.get_logger()

#: How long after a failed write the next is tried, in seconds.
RETRY_S = 2.0


@dataclass(slots=True)
class _Waiting:
    """What is not in the index yet."""

    ids: set[FunctionId] = field(default_factory=set)
    units: dict[str, Unit] = field(default_factory=dict)
    gone_units: set[str] = field(default_factory=set)
    #: Source texts just read, by path; others are in the index already.
    texts: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


class IndexWriter:
    """`standings` is the reconciler's, read when a row is written."""

    def __init__(
        self,
        index: Index,
        root_of: Callable[[str], tuple[Path, str]],
        standings: Mapping[FunctionId, Standing],
        provenances: Provenances,
        active: bool,
    ) -> None:
        """`root_of` gives the folder that a path is in, and the path from there."""
        self._index = index
        self._root_of = root_of
        self._standings = standings
        self._provenances = provenances
        self._active = active
        #: The commits up to which the columns of git are known of all functions, once all that waits is written; by
        #: the keys of their notes.
        self.heads: Mapping[str, str] = {}
        self._waiting = _Waiting()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def files(self, readings: Iterable[Reading], gone: Iterable[str]) -> None:
        """Units that were read, and paths that are no function any more."""
        for reading in readings:
            path = reading.unit.path
            self._waiting.units[path] = reading.unit
            self._waiting.texts[path] = reading.text
            self._waiting.gone_units.discard(path)
        for path in gone:
            self._waiting.gone_units.add(path)
            self._waiting.units.pop(path, None)
            self._waiting.texts.pop(path, None)
        self._start()

    def note(self, key: str, value: str) -> None:
        """A note on what waits already, to be written along with it."""
        self._waiting.notes[key] = value
        self._start()

    def functions(self, ids: Iterable[FunctionId]) -> None:
        """Functions whose standing changed, came or went."""
        self._waiting.ids.update(ids)
        self._start()

    def _start(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def flush(self) -> None:
        """Wait until the index holds what is known now."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, _Waiting()
            standings = {id: self._standings.get(id) for id in waiting.ids}
            try:
                await asyncio.to_thread(self._write, waiting, standings, dict(self.heads))
            except (StoreError, OSError) as exc:
                log.error("index_not_written", error=str(exc), functions=len(standings), again_in_s=RETRY_S)
                self._put_back(waiting)
                await asyncio.sleep(RETRY_S)
            if not self._wake.is_set():
                self._idle.set()

    def _put_back(self, waiting: _Waiting) -> None:
        """What was not written waits on, below what came meanwhile."""
        now = self._waiting
        now.ids |= waiting.ids
        now.units = {path: unit for path, unit in waiting.units.items() if path not in now.gone_units} | now.units
        now.texts = {path: text for path, text in waiting.texts.items() if path not in now.gone_units} | now.texts
        now.gone_units |= waiting.gone_units - now.units.keys()
        now.notes = waiting.notes | now.notes
        self._start()

    def _write(
        self, waiting: _Waiting, standings: Mapping[FunctionId, Standing | None], heads: Mapping[str, str]
    ) -> None:
        rows = [self._row(standing, waiting.texts) for standing in standings.values() if standing is not None]
        self._index.apply(
            units=waiting.units.values(),
            gone_units=waiting.gone_units,
            rows=rows,
            gone=[id for id, standing in standings.items() if standing is None],
            notes={**waiting.notes, **heads},
        )

    def _row(self, standing: Standing, texts: Mapping[str, str]) -> FunctionRow:
        unit = standing.unit
        content = texts.get(unit.path)
        if content is None:
            content = self._known_content(unit)
        return row_of(standing, content, self._provenances.touch(unit), self._active)

    def _known_content(self, unit: Unit) -> str:
        row = self._index.row(unit.id)
        if row is not None and (row.path, row.revision) == (unit.path, unit.revision):
            return row.content
        return read(*self._root_of(unit.path)).text
