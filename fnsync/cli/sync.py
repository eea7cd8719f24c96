"""`fnsync sync`: has the running server sync now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnsync.cli import exits
from fnsync.cli import plan as plans
from fnsync.cli import source as source_commands
from fnsync.cli.client import Client, connected
from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import console, print_error, print_json, printable
from fnsync.cli.source import sync_source, synced_lines
from fnsync.errors import FnsyncError

if TYPE_CHECKING:
    from fnsync.syncplan import SyncPlan

ROUTE = "/api/sync"
#: What the local repository is called among sources.
REPOSITORY = "repository"


def sync(
    source: Annotated[
        str | None, typer.Argument(metavar="[SOURCE]", help="A source, or `repository`. [default: all]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also past the guard against removals, and outside of windows.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what it would do, as `fnsync plan`.")] = False,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Sync now, and print what came: the branch that the repository follows, and the sources."""
    with connected(load_config(config), url, token) as client:
        names = [source] if source is not None else _all(client)
        if dry_run:
            _tell_plans([plans.of_source(client, name) for name in names], json)
            return
        found, failed = [], None
        for name in names:
            try:
                found.append(_synced(client, name, force))
            except FnsyncError as exc:
                if len(names) == 1:
                    raise
                failed = exc  # the others are synced all the same
                print_error(exc)
    if json:
        print_json(found if source is None else found[0])
    else:
        out = console()
        for one in found:
            for line in synced_lines(one) if "source" in one else lines(one):
                out.print(printable(line))
    if failed is not None:
        raise typer.Exit(exits.FAILED)


def _tell_plans(found: list[SyncPlan], json: bool) -> None:
    if json:
        print_json([one.to_dict() for one in found])
    else:
        for one in found:
            plans.show(one)
    if any(one.is_wrong for one in found):
        raise typer.Exit(exits.WOULD_FAIL)


def _all(client: Client) -> list[str]:
    """The repository, if it has a remote to follow, and every source that is not suspended."""
    sources = [one["name"] for one in client.get(source_commands.ROUTE)["sources"] if not one["suspended"]]
    pull = client.get("/api/status").get("pull") or {}
    return [REPOSITORY, *sources] if pull.get("has_remote") or not sources else sources


def _synced(client: Client, name: str, force: bool) -> dict[str, Any]:
    if name != REPOSITORY:
        return sync_source(client, name, force=force)
    found: dict[str, Any] = client.post(ROUTE, {"force": force}).json()
    return found


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What came, as text: a line that says so, and one for each commit."""
    there = f"{found['remote']}/{found['branch']} at {found['url']}"
    count, here = found["count"], found["commit"][:8]
    ahead = f", {found['ahead']} not pushed" if found["ahead"] else ""
    if found["ahead"] and found.get("push_error"):
        ahead += f": {found['push_error']}"
    if held := found.get("held"):
        yield f"{there}: {held['message']}"
        yield f"  {held['hint']}"
        if found["ahead"]:
            yield f"  {found['ahead']} not pushed until then"
        return
    if not count:
        yield f"nothing new in {there}; here is {here}{ahead}"
        return
    yield f"{count} commit{'' if count == 1 else 's'} came from {there}: {found['before'][:8]} to {here}{ahead}"
    for commit in found["commits"]:
        yield f"  {commit['commit'][:8]} {commit['subject']} ({commit['author']})"
    if count > len(found["commits"]):
        yield f"  and {count - len(found['commits'])} older ones"
    if found.get("conflict"):
        yield f"edits that do not fit that are on the branch {found['conflict']}; see `fnsync status`"
