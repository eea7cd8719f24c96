"""`fnsync status`: what is live, and what is wrong with the rest."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnsync.cli import exits
from fnsync.cli.client import Client, connected
from fnsync.cli.exits import NoServer
from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import console, print_error, print_json, printable
from fnsync.cli.source import problem_lines, source_lines
from fnsync.errors import FnsyncError, UnknownFunction

if TYPE_CHECKING:
    from rich.table import Table

    from fnsync.config import Config
    from fnsync.model import FunctionRow

_STYLES = {
    "ready": "green",
    "loading": "cyan",
    "stale": "yellow",
    "failed": "red",
    "conflict": "red",
    "inactive": "dim",
}

#: What becomes of edits over the API, where it is not the default.
_WRITES = {"deny": "refused (repository.write: deny)", "branch": "to branches for review (repository.write: branch)"}


def status(
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this function.")] = None,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Show what the functions came to; without a server, what the last one knew."""
    settings = load_config(config)
    absent: NoServer | None = None
    try:
        with connected(settings, url, token) as client:
            found = fetch_status(client)
    except NoServer as exc:
        if url:
            raise
        absent, found = exc, status_from_index(settings)
    if id is not None:
        found["functions"] = [function for function in found["functions"] if function["id"] == id]
    if json:
        print_json(found)
    else:
        show_status(found, settings.functions)
    if absent:
        print_error(absent)
    if id is not None and not found["functions"]:
        raise UnknownFunction(f"there is no function {id}", hint="`fnsync status` lists the functions")
    if absent:
        raise typer.Exit(exits.NO_SERVER)


def fetch_status(client: Client) -> dict[str, Any]:
    """Return what the server says. Raises FnsyncError when it is of another form."""
    found = client.get("/api/status")
    if not isinstance(found, dict) or not isinstance(found.get("functions"), list):
        raise FnsyncError("the answer to /api/status is not of the form this version knows")
    return {"running": True, **found}


def status_from_index(config: Config) -> dict[str, Any]:
    """What the index says, in the form of /api/status as far as it goes."""
    from fnsync.store.index import Index  # start time

    return {"running": False, "functions": [_from_row(row) for row in Index.peek(config.data / "index.sqlite3")]}


def _from_row(row: FunctionRow) -> dict[str, Any]:
    import dataclasses  # start time

    return {
        "id": row.id,
        "name": row.name,
        "type": row.type,
        "status": row.status,
        "active": row.is_active,
        "global": row.is_global,
        "path": row.path,
        "source": row.source,
        "revision": row.revision,
        "live_revision": row.live_revision,
        "commit": row.commit,
        "updated_at": row.updated_at,
        "error": dataclasses.asdict(row.error) if row.error else None,
        "rivals": list(row.rivals),
    }


# ---- as text ---------------------------------------------------------------------------------------------


def show_status(found: Mapping[str, Any], functions: Path) -> None:
    """Print a status as text; `functions` is the folder of the functions."""
    from fnsync.cli.reloads import problem_lines  # start time: rich

    out = console()
    for line in head_lines(found):
        out.print(line, style="dim")
    if found["functions"]:
        out.print(function_table(found["functions"]))
    else:
        there = "no functions are known yet in" if functions.is_dir() else "there is no project here, since there is no"
        out.print(f"{there} {functions}")
    for name, problem in problems(found):
        out.print(f"\n{name}", style="bold")
        for text in problem_lines(problem, functions):
            out.print("  ", text, sep="")
    sys.stdout.flush()


def head_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Server, repository, watcher and environments, one line each, as far as there is something to say."""
    if not found.get("running"):
        return
    from fnsync.units import format_duration  # start time

    state = "draining" if found.get("draining") else "ready" if found.get("ready") else "starting"
    yield f"fnsync {found.get('version', '')} {state}, up {format_duration(round(found.get('uptime_s') or 0))}"
    repository = found.get("repository") or {}
    if repository:
        head = (repository.get("head") or "")[:8] or "no commit yet"
        dirty = repository.get("dirty") or []
        changes = f", {len(dirty)} uncommitted: {', '.join(dirty[:5])}" if dirty else ", nothing uncommitted"
        yield printable(f"{repository.get('root')} {repository.get('branch') or 'detached'} @ {head}{changes}")
        if repository.get("under_way"):
            yield printable(f"{repository['under_way']} is under way: no edits over the API until it ends")
        elif repository.get("write") in _WRITES:
            yield f"edits over the API: {_WRITES[repository['write']]}"
    yield from _pull_lines(found.get("pull") or {})
    yield from _push_lines(found.get("push") or {})
    for edit in found.get("recovered") or []:
        if not edit.get("problem"):
            what = "completed" if edit.get("outcome") == "completed" else "was committed already"
            yield printable(f"interrupted edit {what}: {_subject(edit)} ({', '.join(edit.get('paths') or ())})")
    watcher = found.get("watcher") or {}
    if watcher.get("problem"):
        yield printable(f"watching by {watcher.get('mode')}: {watcher['problem']}")
    for source in found.get("sources") or []:
        first, *others = source_lines(source)
        yield from map(printable, (f"{first}: {source.get('state')}", *others))
    for upstream in found.get("upstreams") or []:
        said = upstream.get("error") or f"{upstream.get('models')} models"
        yield printable(f"upstream {upstream.get('name')} at {upstream.get('url')}: {said}")
    for environment in found.get("environments") or []:
        if environment.get("state") not in ("ready", None):
            yield printable(
                f"environment {environment.get('name')}: {environment['state']} {environment.get('error') or ''}"
            )


def _pull_lines(pull: Mapping[str, Any]) -> Iterator[str]:
    """The remote that is followed, once it was asked or where it is asked by itself."""
    from fnsync.units import format_duration  # start time

    fetched = pull.get("fetched_at")
    if not pull or (fetched is None and pull.get("interval_s") is None and not pull.get("error")):
        return
    there = f"follows {pull.get('remote')}/{pull.get('branch') or '?'}" + (
        f" at {pull['url']}" if pull.get("url") else ""
    )
    told = ["not fetched yet" if fetched is None else f"fetched {format_duration(round(pull.get('age_s') or 0))} ago"]
    told += [f"{pull[key]} {key}" for key in ("ahead", "behind") if pull.get(key)]
    yield printable(f"{there}: {', '.join(told)}")
    if held := pull.get("held"):
        yield printable(f"  held: {held.get('message')}")
        yield printable(f"  {held.get('hint')}")


def _push_lines(push: Mapping[str, Any]) -> Iterator[str]:
    """What waits to be pushed, if edits are."""
    if push.get("pending"):
        yield f"{push['pending']} {'commit waits' if push['pending'] == 1 else 'commits wait'} to be pushed"


def function_table(functions: list[Mapping[str, Any]]) -> Table:
    """Return the table with a line for each function."""
    from rich.table import Table  # start time
    from rich.text import Text

    running = any("workers" in function for function in functions)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("id", "type", "status", "revision", "commit"):
        table.add_column(heading, no_wrap=True)
    for heading in ("workers", "calls", "crashes") if running else ():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("path", overflow="fold")
    for function in functions:
        state = str(function.get("status") or "")
        # The live revision is what answers; a star tells that the files are ahead of it.
        live, newest = function.get("live_revision"), function.get("revision")
        revision = (live or "")[:8] + ("*" if live and newest and live != newest else "")
        counts = [Text(str(function.get(key) or 0)) for key in ("workers", "calls", "crashes")]
        table.add_row(
            Text(printable(str(function["id"]))),
            Text(str(function.get("type") or "?")),
            Text(state, style=_STYLES.get(state, "")),
            Text(revision or "-"),
            Text((function.get("commit") or "-")[:8]),
            *(counts if running else ()),
            Text(printable(str(function.get("path") or ""))),
        )
    return table


def problems(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and Problem of everything that is wrong."""
    from fnsync.model import Problem  # start time

    for function in found["functions"]:
        state = function.get("status")
        if function.get("error"):
            yield f"{function['id']} is {state}", _problem(function["error"])
        if failing := function.get("unfiltered"):
            said = f"{failing['count']} answers went out as they were; last: {failing['message']}"
            yield f"{function['id']}: outlet", Problem("unfiltered", said)
        if function.get("health"):
            yield f"{function['id']}: workers", Problem("health", str(function["health"]))
    pull = found.get("pull") or {}
    if error := pull.get("error"):
        yield printable(f"nothing is pulled {_since(pull)}"), _problem(error)
    for source in found.get("sources") or []:
        lines = list(problem_lines(source))
        if lines and source.get("state") != "syncing":
            yield printable(f"source {source['name']}"), Problem("source", printable("\n".join(lines)))
    if found.get("sources_problem"):
        yield "sources", Problem("configuration", printable(str(found["sources_problem"])))
    push = found.get("push") or {}
    if error := push.get("error"):
        yield printable(f"nothing is pushed {_since(push)}"), _problem(error)
    for branch in push.get("conflicts") or []:
        paths = ", ".join(branch.get("paths") or ())
        said = f"{branch.get('author')}: {branch.get('subject')} ({paths})"
        what = f"edits that did not fit what was pulled are on the branch {branch.get('branch')}"
        yield printable(what), Problem("conflict", said, hint=branch.get("hint"))
    for edit in found.get("recovered") or []:
        if edit.get("problem"):
            what = f"an edit was interrupted and is not completed: {_subject(edit)}"
            yield printable(what), Problem("unfinished", str(edit["problem"]))
    for refused in found.get("refused") or []:
        yield "refused", _problem(refused)


def _since(pull: Mapping[str, Any]) -> str:
    """Since when pulls fail, and when the next one comes."""
    import time  # start time

    from fnsync.units import format_duration

    now = time.time()
    since = f"for {format_duration(max(0, round(now - (pull.get('failing_since') or now))))}"
    if pull.get("next_at") is None:
        return f"{since}; `fnsync sync` tries again"
    return f"{since}; next try in {format_duration(max(0, round(pull['next_at'] - now)))}"


def _subject(edit: Mapping[str, Any]) -> str:
    return str(edit.get("message") or "").partition("\n")[0]


def _problem(data: Mapping[str, Any]) -> Any:
    """A Problem of the JSON of one; keys of a newer server are left out."""
    from fnsync.model import Problem  # start time

    known = {key: data.get(key) for key in ("path", "line", "column", "text", "hint")}
    return Problem(
        str(data.get("code", "")), str(data.get("message", "")), **known, traceback=tuple(data.get("traceback") or ())
    )
