"""`fnsync import`: takes functions in, from an export, a source, or a Pipelines server's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnsync.cli import exits
from fnsync.cli.nearby import server_or_none
from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import console, print_json, printable
from fnsync.cli.progress import Tell, posted, stepping
from fnsync.errors import Invalid

if TYPE_CHECKING:
    from rich.table import Table

    from fnsync.cli.client import Client
    from fnsync.cli.inputs import Gathered
    from fnsync.cli.vendoring import Asked
    from fnsync.config import Config

ROUTE = "/api/functions/import"

_STYLES = {"created": "green", "updated": "green", "unchanged": "dim", "skipped": "yellow", "refused": "red"}


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|URL|FOLDER",
            help="An export, a .py source, the address of either, the folder of a Pipelines server, a git repository "
            "(git+https://HOST/REPOSITORY@REF#PATH), or - for stdin.",
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Make functions that are there already what the export says.")
    ] = False,
    broken: Annotated[bool, typer.Option("--broken", help="Write functions that do not load, too.")] = False,
    message: Annotated[
        str | None, typer.Option("--message", metavar="TEXT", help="Of the commit. [default: what was imported]")
    ] = None,
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="TEXT", help="Goes before the name of each function; from git.")
    ] = "",
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove functions that came from there and are there no more; from git.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also what was changed here and there becomes what is there; from git.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done; from git.")] = False,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Take functions in, in one commit; fails if one of them was refused."""
    settings = load_config(config)
    if source.lower().startswith("git+"):
        if replace or broken:
            raise Invalid("--replace and --broken are for exports", hint="from git: --force, --prefix, --prune")
        from fnsync.cli.vendoring import Asked  # start time: git
        from fnsync.git.location import parse

        asked_for = Asked(parse(source), prefix, prune, force, dry_run, message)
        _copy(settings, asked_for, url=url, token=token, json=json)
        return
    if prefix or prune or force or dry_run:
        raise Invalid(
            "--prefix, --prune, --force and --dry-run are for git repositories", hint="fnsync import git+https://…"
        )
    from fnsync.cli.inputs import gather  # start time: the parser of sources

    gathered = gather(source)
    asked = {"replace": replace, "broken": broken, "origin": gathered.origin, "commit_message": message}
    with server_or_none(settings, url, token) as client, stepping() as tell:
        if client is not None:
            report = _through(client, gathered, asked, tell)
        else:
            report = _here(settings, gathered, asked, tell)
    report["outcomes"] += [
        {"source": name, "id": None, "outcome": "refused", "reason": reason} for name, reason in gathered.refused
    ]
    if json:
        print_json(report)
    else:
        show(report)
    if any(outcome["outcome"] == "refused" for outcome in report["outcomes"]):
        raise typer.Exit(exits.FAILED)


def _copy(config: Config, asked: Asked, *, url: str | None, token: str | None, json: bool) -> None:
    """Copy functions out of a git repository; a dry run that finds something in the way fails."""
    from fnsync.cli import vendoring  # start time: git

    with server_or_none(config, url, token) as client, stepping() as tell:
        told = vendoring.through(client, asked, tell) if client is not None else vendoring.here(config, asked, tell)
    if json:
        print_json(told)
    else:
        vendoring.show(told)
    if vendoring.is_wrong(told):
        raise typer.Exit(exits.FAILED)


# ---- the work --------------------------------------------------------------------------------------------


def _through(client: Client, gathered: Gathered, asked: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Have the running server do it."""
    body = {"functions": gathered.entries, **asked}
    return posted(client, ROUTE, body, "outcomes", tell)


def _here(config: Config, gathered: Gathered, asked: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Do it in this process."""
    import os  # start time, as all that the parts of a server need

    from fnsync import offline
    from fnsync.api.imports import told_of
    from fnsync.edits.entries import Progress
    from fnsync.edits.exports import entries
    from fnsync.edits.importing import Importer, ImportOptions
    from fnsync.edits.manager import Terms
    from fnsync.model import User
    from fnsync.service import Service

    options = ImportOptions(asked["replace"], asked["broken"], asked["origin"])

    def hear(progress: Progress) -> None:
        tell(progress.step, progress.done, progress.total)

    async def work(service: Service, admin: User) -> dict[str, Any]:
        terms = Terms(admin, asked["commit_message"])
        return told_of(await Importer(service.manager).take(entries(gathered.entries), options, terms, hear))

    return offline.run(config, os.environ, work)


# ---- what is shown ---------------------------------------------------------------------------------------


def show(report: Mapping[str, Any]) -> None:
    """Print what became of each function, and in one line of all."""
    outcomes = report["outcomes"]
    told = [one for one in outcomes if one["outcome"] != "unchanged" or one["reason"]]
    if told:
        console().print(outcome_table(told))
    counts = Counter(one["outcome"] for one in outcomes)
    line = ", ".join(f"{counts[name]} {name}" for name in _STYLES if counts[name]) or "nothing to import"
    proposal = report.get("proposal")
    if proposal is not None:
        line += f"; {proposal['detail']}"
    elif report["commit"]:
        line += f"; commit {report['commit'][:8]}"
    console(stderr=True).print(printable(line), style="dim")


def outcome_table(outcomes: list[Mapping[str, Any]]) -> Table:
    """The table with a line for each function."""
    from rich.table import Table  # start time
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("outcome", "function", "from"):
        table.add_column(heading, no_wrap=True)
    table.add_column("why", overflow="fold")
    for one in outcomes:
        outcome = str(one["outcome"])
        table.add_row(
            Text(outcome, style=_STYLES.get(outcome, "")),
            Text(printable(one["id"] or "-")),
            Text(printable(one["source"])),
            Text(printable(one["reason"] or "")),
        )
    return table
