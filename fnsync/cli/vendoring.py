"""`fnsync import git+https://…`: copies functions out of a git repository."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fnsync.cli.output import console, printable
from fnsync.cli.progress import Tell, posted

if TYPE_CHECKING:
    from rich.table import Table

    from fnsync.cli.client import Client
    from fnsync.config import Config
    from fnsync.git.location import Location

ROUTE = "/api/functions/sync"

_STYLES = {"added": "green", "changed": "yellow", "removed": "red", "conflict": "red", "unchanged": "dim"}


@dataclass(frozen=True, slots=True)
class Asked:
    """How functions are copied; see `fnsync.edits.vendoring.Order`."""

    location: Location
    prefix: str = ""
    prune: bool = False
    force: bool = False
    dry_run: bool = False
    message: str | None = None


def through(client: Client, asked: Asked, tell: Tell) -> dict[str, Any]:
    """Have the running server do it. Raises FnsyncError with what it refuses."""
    place = asked.location
    body = {
        "mode": "vendor",
        "url": place.url,
        "ref": place.ref,
        "path": place.path,
        "prefix": asked.prefix,
        "prune": asked.prune,
        "force": asked.force,
        "dry_run": asked.dry_run,
        "commit_message": asked.message,
    }
    return posted(client, ROUTE, body, "plan", tell)


def here(config: Config, asked: Asked, tell: Tell) -> dict[str, Any]:
    """Do it in this process."""
    import os  # start time, as all that the parts of a server need

    from fnsync import offline
    from fnsync.api.functionsync import told_of
    from fnsync.edits.entries import Progress
    from fnsync.edits.manager import Terms
    from fnsync.edits.vendoring import Order, check_prefix
    from fnsync.model import User
    from fnsync.service import Service

    order = Order(asked.location, check_prefix(asked.prefix), asked.prune, asked.force)

    def hear(progress: Progress) -> None:
        tell(progress.step, progress.done, progress.total)

    async def work(service: Service, admin: User) -> dict[str, Any]:
        terms = Terms(admin, asked.message)
        return told_of(await service.vendor.run(order, terms, dry_run=asked.dry_run, tell=hear), asked.dry_run)

    return offline.run(config, os.environ, work)


def show(told: Mapping[str, Any]) -> None:
    """Print what became of each function, or would, and in one line of all."""
    plan = told["plan"]
    shown = [one for one in plan["functions"] if one["action"] != "unchanged" or one["warnings"] or one["error"]]
    if shown:
        console().print(_table(shown))
    aside = console(stderr=True)
    for line in _notes(plan):
        aside.print(printable(line), style="yellow")
    aside.print(printable(_sum(told)), style="dim")


def is_wrong(told: Mapping[str, Any]) -> bool:
    """Whether a dry run found something in the way."""
    return any(one["error"] or one["action"] == "conflict" for one in told["plan"]["functions"])


def _table(changes: list[Mapping[str, Any]]) -> Table:
    from rich.table import Table  # start time
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("what", "function", "path"):
        table.add_column(heading, no_wrap=True)
    table.add_column("", overflow="fold")
    for one in changes:
        error = one["error"]
        place = ":".join(str(error[key]) for key in ("path", "line") if error[key] is not None) if error else ""
        said = [f"{place}: {error['message']}" if place else error["message"]] if error else []
        table.add_row(
            Text(one["action"], style=_STYLES.get(one["action"], "")),
            Text(printable(one["id"])),
            Text(printable(one["path"])),
            Text(printable("; ".join([*said, *one["warnings"]])), style="red" if error else "yellow"),
        )
    return table


def _notes(plan: Mapping[str, Any]) -> Iterator[str]:
    yield from plan["notes"]
    for problem in plan["refused"]:
        yield f"left out: {problem['path']}: {problem['message']}"


def _sum(told: Mapping[str, Any]) -> str:
    origin = told["origin"]
    counts = Counter(one["action"] for one in told["plan"]["functions"])
    line = ", ".join(f"{counts[name]} {name}" for name in _STYLES if counts[name])
    line += f"; {origin['url']} at {origin['commit']['commit'][:8]}"
    if told.get("proposal") is not None:
        return f"{line}; {told['proposal']['detail']}"
    if told["commit"]:
        return f"{line}; commit {told['commit'][:8]}"
    return f"{line}; nothing was written" if told["dry_run"] else line
