"""`fnsync logs`: what a function printed and logged."""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from fnsync.cli.client import connected
from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import console, print_json, printable
from fnsync.errors import FnsyncError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.text import Text

_STYLES = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "red bold"}


def logs(
    id: Annotated[str, typer.Argument(metavar="ID", help="The function.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=1000, help="How many lines to begin with.")] = 100,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Show what a function printed and logged; the last 1,000 lines are kept."""
    path = f"/api/functions/id/{quote(id, safe='')}/logs"
    settings = load_config(config)
    show = _printer(as_json=json)
    with connected(settings, url, token) as client:
        if not follow:
            for line in _lines(client.get(path, tail=lines)):
                show(line)
            return
        with client.stream("GET", path, tail=lines, follow="true") as arriving:
            for text in arriving:
                if text.strip():  # blank lines keep the connection open
                    show(_line(text))
    console(stderr=True).print("the server has stopped", style="dim")


def _lines(answer: Any) -> list[Mapping[str, Any]]:
    lines = answer.get("lines") if isinstance(answer, dict) else None
    if not isinstance(lines, list):
        raise FnsyncError("the answer about logs is not of the form this version knows")
    return lines


def _line(text: str) -> Mapping[str, Any]:
    try:
        line: Mapping[str, Any] = jsonlib.loads(text)
    except ValueError as exc:
        raise FnsyncError("the connection broke in the middle of a line") from exc
    return line


def _printer(*, as_json: bool) -> Callable[[Mapping[str, Any]], None]:
    if as_json:
        return lambda line: print_json(line, one_line=True)
    out = console()
    return lambda line: out.print(log_text(line))


def log_text(line: Mapping[str, Any]) -> Text:
    """One line: time, revision, what it is, text."""
    from rich.text import Text  # start time

    at = float(line["at"])
    clock = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}"
    level = str(line.get("level") or "info").lower()
    stream = str(line.get("stream") or "log")
    # Prints are named for where they went, records for how much they matter.
    label = level if stream == "log" else stream
    style = _STYLES.get(level, "") or ("red" if stream == "stderr" else "")
    logger = f"{line['logger']}: " if line.get("logger") else ""
    return Text.assemble(
        (f"{clock} {str(line.get('revision') or '')[:8]:8} ", "dim"),
        (f"{label:8} ", style),
        (printable(logger), "dim"),
        (printable(str(line.get("text", ""))), style),
    )
