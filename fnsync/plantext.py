"""Sync plans for people: as lines for terminals, and as Markdown for a pull request.

What stands in files is anybody's. Lines have no character that a terminal acts on. In Markdown it only stands in code
spans: these have no markup, no HTML, no links, and nobody is notified for a name in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from fnsync.differences import Difference
from fnsync.model import Problem
from fnsync.syncplan import Action, FunctionChange, SyncPlan

#: The longest Markdown, in characters; GitHub takes 65,536.
MARKDOWN_CHARS = 60_000
#: The longest message or value there.
_CELL_CHARS = 400
#: What is left for the line that says how much was left out, and the ends of what is open.
_RESERVE_CHARS = 300

#: C0, DEL, C1, halves of characters; what turns the direction of text, is not seen, or separates lines.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_BACKTICKS = re.compile("`+")
_SIGNS: dict[Action, str] = {"added": "+", "changed": "~", "removed": "−", "unchanged": "=", "conflict": "!"}

Style = Literal["head", "added", "changed", "removed", "unchanged", "conflict", "error", "hint", "warning", "detail"]


def printable(text: str) -> str:
    """A text without characters that a terminal acts on, or that nobody sees."""
    return _UNSEEN.sub("�", text.replace("\r\n", "\n").replace("\t", "    "))


def line_of(text: str) -> str:
    """A text on one line."""
    return " ".join(printable(text).split())


# ---- lines ---------------------------------------------------------------------------------------------------


def to_text(plan: SyncPlan) -> str:
    """The plan as lines, with a line feed at the end."""
    return "".join(f"{line}\n" for line, _ in lines(plan))


def lines(plan: SyncPlan) -> Iterator[tuple[str, Style]]:
    """Each line, and what it is. Functions that stay as they are, and serve, are only counted."""
    yield f"{_title(plan)}: {_sum(plan)}", "head"
    for note in plan.notes:
        yield f"  {line_of(note)}", "hint"
    told = _told(plan)
    width = max((len(one.id) for one in told), default=0)
    for one in told:
        what = ", ".join(one.changes) or one.action
        yield f"{_SIGNS[one.action]} {one.id:{width}}  {what}  {line_of(one.path)}", one.action
        yield from _below(one)
    for problem in plan.refused:
        yield f"! {line_of(problem.path or '')}  can be no function", "conflict"
        yield from _problem(problem)


def _title(plan: SyncPlan) -> str:
    name = "the functions folder" if plan.source == "local" else plan.source
    asked = f" at {line_of(plan.ref)}" if plan.ref else ""
    before = f"{plan.before[:8]} → " if plan.before else ""
    return f"{name}{asked} ({before}{plan.after[:8]})"


def _sum(plan: SyncPlan) -> str:
    totals = plan.totals
    shown = {"conflict": "in conflict"}
    counts = [f"{count} {shown.get(name, name)}" for name, count in totals.items() if count and name != "failing"]
    tail = f"; {totals['failing']} would not go live" if totals["failing"] else ""
    tail += f"; {_files(len(plan.refused))}" if plan.refused else ""
    read = "" if plan.loaded else "; read only, nothing was loaded"
    nothing = "nothing would change, " if plan.is_empty and counts else ""
    return nothing + (", ".join(counts) or "no functions") + tail + read


def _files(count: int) -> str:
    return "1 file can be no function" if count == 1 else f"{count} files can be no functions"


def _told(plan: SyncPlan) -> list[FunctionChange]:
    """What is worth a line: what would not go live first."""
    told = [one for one in plan.functions if one.action != "unchanged" or one.is_wrong]
    return sorted(told, key=lambda one: not one.is_wrong)


def _below(one: FunctionChange) -> Iterator[tuple[str, Style]]:
    if one.error is not None:
        yield from _problem(one.error)
        if one.live and one.action != "removed":
            yield "    what answers now goes on answering", "hint"
    for warning in one.warnings:
        yield f"    ! {line_of(warning)}", "warning"
    for detail in one.details:
        if detail.what != "source":
            yield f"    {detail.what:12}  {line_of(str(detail))}", "detail"
    if one.more_details:
        yield f"    and {one.more_details} more", "detail"


def _problem(problem: Problem) -> Iterator[tuple[str, Style]]:
    place = f"{line_of(_place(problem))}: " if _place(problem) else ""
    first, *rest = printable(problem.message).splitlines() or [problem.code]
    yield f"    ✗ {place}{first}", "error"
    yield from ((f"      {line}", "error") for line in rest)
    if problem.text is not None and problem.line is not None:
        yield f"      {problem.line} │ {line_of(problem.text)}", "detail"
    if problem.hint:
        yield f"      {line_of(problem.hint)}", "hint"


def _place(problem: Problem) -> str:
    """Where it is, unless the message begins with that."""
    return "" if problem.message.startswith(problem.place) else problem.place


# ---- Markdown --------------------------------------------------------------------------------------------------


def to_markdown(plan: SyncPlan) -> str:
    """The plan as GitHub's Markdown, at most `MARKDOWN_CHARS` long."""
    name = "the functions folder" if plan.source == "local" else code(plan.source)
    asked = f" at {code(plan.ref)}" if plan.ref else ""
    before = f"{code(plan.before[:8])} → " if plan.before else ""
    head = [f"### fnsync plan: {name}{asked} ({before}{code(plan.after[:8])})", "", f"{_sum(plan)}.", ""]
    for note in plan.notes:
        head += [f"> {code(note)}", ""]
    told = _told(plan)
    rows = [*map(_row, told), *map(_refused_row, plan.refused)]
    if rows:
        head += ["| | function | what | |", "|---|---|---|---|"]
    room = MARKDOWN_CHARS - sum(len(line) + 1 for line in head) - _RESERVE_CHARS
    table, left_out, room = _fitting(rows, room)
    text = [*head, *table]
    if left_out:
        text += ["", f"… and {left_out} more."]
    differing = [one for one in told if one.details]
    if differing and not left_out and room > 0:
        entries = [_entry(one) for one in differing]
        shown, left_out, _ = _fitting(entries, room)
        text += ["", "<details><summary>What differs</summary>", "", *shown]
        text += [f"… and {left_out} more functions.", "", "</details>"] if left_out else ["</details>"]
    return "\n".join(text) + "\n"


def code(text: str, *, cell: bool = False) -> str:
    """A text of anybody's as a code span; in a cell of a table it cannot end the cell."""
    shown = line_of(text)
    if len(shown) > _CELL_CHARS:
        shown = shown[: _CELL_CHARS - 1] + "…"
    if cell:
        shown = shown.replace("|", "│")  # hosts differ in what a backslash before it means
    if not shown:
        return ""
    runs = {len(run) for run in _BACKTICKS.findall(shown)}
    fence = "`" * next(count for count in range(1, len(runs) + 2) if count not in runs)
    pad = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


_MARKS: dict[Action, str] = {
    "added": "➕ added",
    "changed": "✏️ changed",
    "removed": "➖ removed",
    "unchanged": "unchanged",
    "conflict": "⚠️ conflict",
}


def _row(one: FunctionChange) -> str:
    what = ", ".join(one.changes) or code(one.path, cell=True)
    said = [_error(one.error)] if one.error is not None else []
    said += [f"⚠️ {code(warning, cell=True)}" for warning in one.warnings]
    return f"| {_MARKS[one.action]} | {code(one.id, cell=True)} | {what} | {'<br>'.join(said)} |"


def _refused_row(problem: Problem) -> str:
    return f"| ⚠️ refused | {code(problem.path or '', cell=True)} | can be no function | {_error(problem)} |"


def _error(problem: Problem) -> str:
    place = f"{code(_place(problem), cell=True)}: " if _place(problem) else ""
    hint = f"<br>{code(problem.hint, cell=True)}" if problem.hint else ""
    return f"❌ {place}{code(problem.message, cell=True)}{hint}"


def _entry(one: FunctionChange) -> str:
    """What differs of a function, as a list."""
    found = [f"**{code(one.id)}** {code(one.path)}", "", *map(_item, one.details)]
    if one.more_details:
        found.append(f"- and {one.more_details} more")
    return "\n".join([*found, ""])


def _item(detail: Difference) -> str:
    verb = "" if detail.change == "changed" else f" {detail.change}"
    if detail.what == "source":
        return "- source"
    values = [code(value) for value in (detail.before, detail.after) if value]
    arrow = " → ".join(values) if detail.change == "changed" else "".join(values[-1:])
    return f"- {detail.what}{verb}: {code(detail.name)}{f' {arrow}' if arrow else ''}"


def _fitting(texts: Iterable[str], room: int) -> tuple[list[str], int, int]:
    """The first texts that fit in so many characters, how many do not, and the room left."""
    found: list[str] = []
    left_out = 0
    for text in texts:
        if left_out or len(text) + 1 > room:
            left_out += 1
        else:
            found.append(text)
            room -= len(text) + 1
    return found, left_out, room
