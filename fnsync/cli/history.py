"""`fnsync history` and `fnsync diff`: what a function was, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import console, print_json, printable
from fnsync.cli.past import past

if TYPE_CHECKING:
    from rich.table import Table

#: What stands for a version, in the words of the API.
DISK, BEFORE = "disk", "before"
SHORT = 8

_CHANGES = {"added": "green", "removed": "red", "changed": "yellow"}
_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def history(
    id: Annotated[str, typer.Argument(metavar="ID")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many versions.")] = 20,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """List the versions of a function, newest first."""
    with past(load_config(config), url, token) as found:
        known = found.versions(id, limit)
    if json:
        print_json(known)
    else:
        _show_versions(known)


def diff(
    id: Annotated[str, typer.Argument(metavar="ID")],
    before: Annotated[
        str, typer.Argument(metavar="[FROM]", help="A version. [default: the one before]", show_default=False)
    ] = BEFORE,
    after: Annotated[
        str, typer.Argument(metavar="[TO]", help="A version. [default: what is on disk now]", show_default=False)
    ] = DISK,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Show how two versions of a function differ, and what that means."""
    with past(load_config(config), url, token) as found:
        known = found.difference(id, before, after)
    if json:
        print_json(known)
    else:
        _show_difference(known)


# ---- as text ---------------------------------------------------------------------------------------------


def _show_versions(known: Mapping[str, Any]) -> None:
    out, aside = console(), console(stderr=True)
    if known["versions"] or known["uncommitted"]:
        out.print(version_table(known))
    live = known["live"]
    if live is not None and live["version"] is None and live["revision"] != known["disk"]["revision"]:
        aside.print(f"{live['revision'][:SHORT]} answers, which is none of these: see fnsync status", style="yellow")
    if known["more"]:
        aside.print(f"there are older ones: --limit {len(known['versions']) * 5}", style="dim")


def version_table(known: Mapping[str, Any]) -> Table:
    """A line for each version, and one above them for what is in no commit."""
    from rich.table import Table  # start time
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("version", "when", "who"):
        table.add_column(heading, no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("what", overflow="fold")
    if known["uncommitted"]:
        marks = _marks(known, None)
        table.add_row("-", "-", "-", Text(marks, style="green"), Text("what is on disk, in no commit", style="yellow"))
    for version in known["versions"]:
        table.add_row(
            Text(version["id"][:SHORT], style="yellow"),
            _when(version["created_at"]),
            Text(printable(who(version))),
            Text(_marks(known, version["id"]), style="green"),
            Text(subject(version)),
        )
    return table


def _marks(known: Mapping[str, Any], version: str | None) -> str:
    """What a version is now: `live`, if it answers calls."""
    live = known["live"]
    if live is None or live["version"] != version:
        return ""
    return "live" if version is not None or live["revision"] == known["disk"]["revision"] else ""


def who(version: Mapping[str, Any]) -> str:
    """Whose version it is."""
    return str((version["user"] or {}).get("name") or version["user_id"] or "?")


def subject(version: Mapping[str, Any]) -> str:
    """What a version's commit says of itself, in one line."""
    return printable((version["commit_message"] or "").partition("\n")[0]) or "edited over the API"


def _when(at: int) -> str:
    from datetime import datetime  # start time

    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def _show_difference(known: Mapping[str, Any]) -> None:
    out, aside = console(), console(stderr=True)
    for change in known["changes"]:
        out.print(printable(change_line(change)), style=_CHANGES.get(change["change"]))
    for line, style in diff_lines(known["diff"]):
        out.print(line, style=style)
    if known["line_endings_only"]:
        aside.print("only the ends of lines differ", style="dim")
    elif not known["diff"] and not known["changes"]:
        aside.print(f"nothing differs between {_state(known['before'])} and {_state(known['after'])}", style="dim")


def change_line(change: Mapping[str, Any]) -> str:
    """What differs, on one line."""
    from fnsync.differences import Difference  # start time

    return " ".join(f"{change['what'].replace('_', ' ')}  {Difference(**change)}".split("\n"))


def diff_lines(text: str) -> Iterator[tuple[str, str | None]]:
    """The lines of a unified diff, each with its style."""
    for line in printable(text).split("\n") if text else ():
        is_head = line.startswith(("--- ", "+++ "))
        yield line, "bold" if is_head else _STYLES.get(line[:1])


def _state(name: str | None) -> str:
    return "nothing" if name is None else "what is on disk" if name == DISK else name[:SHORT]
