"""`fnsync check`: what is wrong with the function files, and what they use of open_webui; nothing is executed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnsync.cli import exits
from fnsync.cli.options import ConfigFile, Json, load_config
from fnsync.cli.output import console, print_json, printable

if TYPE_CHECKING:
    from rich.console import Console

    from fnsync.model import Problem, Unit
    from fnsync.source.usage import Use

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Functions to look at. [default: all]")]
Compat = Annotated[bool, typer.Option("--compat", help="List what each uses of open_webui, and what is provided.")]


def check(ids: Ids = None, compat: Compat = False, config: ConfigFile = None, json: Json = False) -> None:
    """Look at the function files without running them; fails when something is wrong with one."""
    root = load_config(config).functions
    looked = [_look(root, unit, compat) for unit in _units(root, ids)]
    if json:
        print_json([one.told() for one in looked])
    else:
        for one in looked:
            _show(one, root, compat)
    if any(one.wrong for one in looked):
        raise typer.Exit(exits.FAILED)


@dataclasses.dataclass(frozen=True, slots=True)
class Looked:
    """What was found in a function's files. Paths are relative to the functions folder."""

    unit: Unit
    #: Each with the file that it is in.
    uses: tuple[tuple[str, Use], ...] | None

    @property
    def problem(self) -> Problem | None:
        return self.unit.problem

    @property
    def wrong(self) -> bool:
        """Whether it does not load, or uses what is not there."""
        return self.problem is not None or any(_is_missing(use) for _, use in self.uses or ())

    def told(self) -> dict[str, Any]:
        """As JSON."""
        told: dict[str, Any] = {
            "id": self.unit.id,
            "path": self.unit.path,
            "kind": self.unit.inspection.kind,
            "problem": dataclasses.asdict(self.problem) if self.problem else None,
        }
        if self.uses is not None:
            told["uses"] = [{"path": path, **dataclasses.asdict(use)} for path, use in self.uses]
        return told


def _is_missing(use: Use) -> bool:
    return not (use.provided or use.guarded)


def _units(root: Path, ids: list[str] | None) -> list[Unit]:
    """The functions of these ids, by path. Raises UnknownFunction for an id that none has."""
    from fnsync.errors import UnknownFunction  # start time
    from fnsync.source.catalog import Catalog

    catalog = Catalog(root)
    catalog.refresh(None)
    found = [unit for _, unit in sorted(catalog.units.items())]
    wanted = {id.lower() for id in ids or ()}
    for id in sorted(wanted - {unit.id for unit in found}):
        raise UnknownFunction(f"there is no function {id!r} in {root}")
    return [unit for unit in found if not wanted or unit.id in wanted]


def _look(root: Path, unit: Unit, compat: bool) -> Looked:
    return Looked(unit, tuple(_uses(root, unit)) if compat else None)


def _uses(root: Path, unit: Unit) -> list[tuple[str, Use]]:
    """What the Python files of a function use, its shared modules too."""
    from fnsync.errors import SourceError  # start time
    from fnsync.model import Kind
    from fnsync.source import syntax, usage
    from fnsync.source.decoding import decode

    found = []
    own = {item.module.partition(".")[0] for item in unit.inspection.imports if item.origin in ("local", "shared")}
    for part in unit.parts:
        if not part.place.endswith(".py"):
            continue
        is_rewritten = part.path == unit.path and unit.inspection.kind is not Kind.PIPELINE
        old = usage.old_names(frozenset(own)) if is_rewritten else frozenset()
        try:
            tree = syntax.tree(decode((root / part.path).read_bytes(), part.path), part.path)
        except (SourceError, OSError):  # told as the unit's problem, where it is one
            continue
        found += [(part.path, use) for use in usage.uses(tree, old)]
    return found


def _show(one: Looked, root: Path, compat: bool) -> None:
    out = console()
    kind = f" ({one.unit.inspection.kind.value})" if one.unit.inspection.kind else ""
    lines = [_use(root, path, use) for path, use in one.uses or ()]
    if one.problem is None and not lines:
        out.print(f"✓ {one.unit.id}{kind}" + ("  uses nothing of open_webui" if compat else ""))
        return
    out.print(f"{'✗' if one.wrong else '✓'} {one.unit.id}{kind}", style="red" if one.wrong else None)
    if one.problem is not None:
        _show_problem(out, root, one.problem)
    for text, style in lines:
        out.print(text, style=style)


def _show_problem(out: Console, root: Path, problem: Problem) -> None:
    place = f"{root.name}/{problem.place}: " if problem.place else ""
    out.print(printable(f"    {place}{problem.message}"))
    if problem.hint:
        out.print(printable(f"      {problem.hint}"), style="yellow")


def _use(root: Path, path: str, use: Use) -> tuple[str, str | None]:
    place = printable(f"{root.name}/{path}:{use.line}")
    if use.provided:
        return f"    ✓ {use.symbol}  {place}", None
    if use.guarded:
        return f"    ! {use.symbol}  {place}: not provided; the file does without it", "yellow"
    return f"    ✗ {use.symbol}  {place}: not provided; an error where it is used", "red"
