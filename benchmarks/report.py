"""The rows of the result, as a table for people and as JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from rich.table import Table

Unit = Literal["/s", "ms", "s", "MB", ""]


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound for a row's value, or for its ratio to the reference."""

    bound: float
    of: Literal["value", "ratio"]
    #: Whether less is better.
    most: bool

    def met(self, value: float, ratio: float | None) -> bool:
        measured = value if self.of == "value" else ratio
        assert measured is not None
        return measured <= self.bound if self.most else measured >= self.bound


def ratio_at_least(bound: float) -> Budget:
    return Budget(bound, "ratio", most=False)


def ratio_at_most(bound: float) -> Budget:
    return Budget(bound, "ratio", most=True)


def at_most(bound: float) -> Budget:
    return Budget(bound, "value", most=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. The reference is of the same run; `detail` goes to the JSON only."""

    what: str
    value: float
    unit: Unit
    reference: float | None = None
    budget: Budget | None = None
    #: How far the rounds lay apart, as a share of the value; shown as ±.
    spread: float | None = None
    detail: dict[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.value / self.reference if self.reference else None

    @property
    def met(self) -> bool | None:
        return None if self.budget is None else self.budget.met(self.value, self.ratio)


def table(rows: Sequence[Row]) -> Table:
    shown = Table(title="fnsync benchmarks", title_justify="left")
    shown.add_column("what")
    for name in ("value", "reference", "ratio", "budget"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("")
    for row in rows:
        shown.add_row(*_cells(row))
    return shown


def _cells(row: Row) -> tuple[str, ...]:
    value = _amount(row.value, row.unit)
    if row.spread is not None:
        value += f" ±{row.spread:.0%}"
    return (
        row.what,
        value,
        _amount(row.reference, row.unit) if row.reference is not None else "",
        f"{row.ratio:.2f}" if row.ratio is not None else "",
        _bound(row),
        {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[row.met],
    )


def _bound(row: Row) -> str:
    budget = row.budget
    if budget is None:
        return ""
    amount = _amount(budget.bound, row.unit) if budget.of == "value" else f"{budget.bound:g} ×"
    return f"{'≤' if budget.most else '≥'} {amount}"


def _amount(value: float, unit: Unit) -> str:
    if value >= 100:
        return f"{value:,.0f} {unit}"
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}"


def write(rows: Sequence[Row], file: Path, *, quick: bool) -> None:
    """Write the rows, and what they were measured on."""
    packages = ("fnsync", "starlette", "uvicorn", "uvloop", "httptools", "msgspec")
    result = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": quick,
        "machine": {
            "processors": len(os.sched_getaffinity(0)),
            "system": platform.platform(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in packages},
        },
        "rows": [{**asdict(row), "ratio": row.ratio, "met": row.met} for row in rows],
    }
    file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
