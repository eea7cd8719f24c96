"""What `fnsync dev` shows of a reload: what changed, what it came to, how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from fnsync.cli.output import console, printable
from fnsync.model import LOCAL
from fnsync.places import source_of

if TYPE_CHECKING:
    from fnsync.model import Problem
    from fnsync.reports import ReloadReport
    from fnsync.runtime.environments import EnvironmentState
    from fnsync.runtime.logs import LogLine

#: More changed paths than this are counted instead of named.
MOST_PATHS = 4
#: More functions than this that came to the same are counted instead of named; failures are all named.
MOST_FUNCTIONS = 20


class Reloads:
    """Prints reports; `functions` is the folder that their paths are relative to."""

    def __init__(self, functions: Path) -> None:
        self._functions = functions
        self._out = console()

    def show(self, report: ReloadReport) -> None:
        """Print what a reload came to."""
        for line in report_lines(report, self._functions):
            self._out.print(line)

    def show_environment(self, state: EnvironmentState) -> None:
        """Installing takes time: each step that uv tells is shown."""
        what = ", ".join(state.requirements)
        if state.state == "building":
            self._out.print(Text.assemble("  … ", what, (f"  {printable(state.progress or '')}", "dim")))
        elif state.state == "ready" and state.took_s is not None:
            self._out.print(
                Text.assemble("  ", ("✓ ", "green"), f"{what} installed", (f"  {state.took_s:.1f} s", "dim"))
            )

    def show_line(self, line: LogLine) -> None:
        """What a function prints, as it comes."""
        style = "yellow" if line.level in ("WARNING", "ERROR", "CRITICAL") else ""
        self._out.print(Text.assemble((f"  {line.function} │ ", "cyan"), (printable(line.text), style)))


def report_lines(report: ReloadReport, functions: Path) -> Iterator[Text]:
    """The lines that tell about a reload."""
    clock = time.strftime("%H:%M:%S", time.localtime(report.at))
    yield Text.assemble(
        (clock, "dim"), " ", (changed_paths(report.changed), "bold"), (f"  {report.took_ms:.0f} ms", "dim")
    )
    for id, revision, took_ms in report.loaded[:MOST_FUNCTIONS]:
        yield Text.assemble("  ", ("✓ ", "green"), id, f" is live as {revision[:8]}", (f"  {took_ms:.0f} ms", "dim"))
    yield from _more(len(report.loaded), "are live")
    for id, what in report.applied[:MOST_FUNCTIONS]:
        yield Text.assemble("  ", ("✓ ", "green"), id, f": {printable(what)} applied")
    yield from _more(len(report.applied), "took new settings")
    for id in report.removed[:MOST_FUNCTIONS]:
        yield Text.assemble("  ", ("- ", "yellow"), id, " is gone")
    yield from _more(len(report.removed), "are gone")
    for id, problem in report.failed:
        yield Text.assemble("  ", ("✗ ", "red bold"), (id, "red"))
        for line in problem_lines(problem, functions):
            yield Text("    ").append_text(line)


def _more(count: int, what: str) -> Iterator[Text]:
    if count > MOST_FUNCTIONS:
        yield Text(f"  … and {count - MOST_FUNCTIONS} more {what}", style="dim")


def changed_paths(paths: tuple[str, ...]) -> str:
    """Return the paths as a text, counted when they are many."""
    if not paths:  # the start, or a look at everything
        return "all functions"
    if len(paths) > MOST_PATHS:
        return f"{len(paths)} files changed"
    return printable(", ".join(paths)) + " changed"


def problem_lines(problem: Problem, functions: Path) -> Iterator[Text]:
    """A problem with its place, its source line and a mark under the column."""
    if problem.place:
        # A path that terminals and editors can open, from where the command was started.
        is_local = source_of(problem.path or "") == LOCAL
        yield Text(printable(shown_path(functions / problem.place) if is_local else problem.place), style="cyan")
    for line in printable(problem.message).splitlines():
        yield Text(line, style="red")
    if problem.text:
        number = f"{problem.line} │ " if problem.line else "│ "
        text = printable(problem.text).expandtabs(1)
        yield Text.assemble((number, "dim"), text)
        if problem.column and problem.column <= len(text) + 1:
            yield Text(" " * (len(number) + problem.column - 1) + "^", style="red bold")
    for entry in problem.traceback:
        for line in printable(entry).rstrip().splitlines():
            yield Text(line, style="dim")
    if problem.hint:
        yield Text(printable(problem.hint), style="yellow")


def shown_path(path: Path) -> str:
    """Return a path as one would type it in the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
