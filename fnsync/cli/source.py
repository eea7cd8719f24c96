"""`fnsync source`: which git repositories are followed beside the local functions, and how they stand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from fnsync.cli.client import Client, connected
from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import console, print_json, printable
from fnsync.errors import FnsyncError

ROUTE = "/api/sources"
#: How a state is shown.
STYLES = {
    "following": "green",
    "syncing": "cyan",
    "new": "cyan",
    "held": "yellow",
    "pinned": "yellow",
    "failing": "red",
    "suspended": "dim",
}

app = typer.Typer(help="Follow git repositories beside the local functions.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The source's name.")]
Names = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="May be given more than once.")]


@app.command("add")
def add(
    source_url: Annotated[str, typer.Argument(metavar="URL", help="https, ssh, git or file URL, without credentials.")],
    name: Annotated[str | None, typer.Option(help="[default: what the repository is called]")] = None,
    ref: Annotated[
        str | None,
        typer.Option(help="Branch, tag, commit, or a range such as ^1.2. [default: the default branch]"),
    ] = None,
    path: Annotated[str | None, typer.Option(help="Folder in the repository that holds the functions.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Goes before the id of each function.")] = None,
    interval: Annotated[str | None, typer.Option(help="How often it is fetched. [default: 60s]")] = None,
    include: Names = None,
    ignore: Names = None,
    gate: Annotated[str | None, typer.Option(help="each, or all: only commits all of whose functions load.")] = None,
    prune: Annotated[bool, typer.Option(help="Remove functions that left the repository.")] = True,
    token_env: Annotated[str | None, typer.Option(metavar="VARIABLE", help="Server variable with a token.")] = None,
    ssh_key: Annotated[str | None, typer.Option(metavar="FILE", help="Private key, a file on the server.")] = None,
    known_hosts: Annotated[str | None, typer.Option(metavar="FILE", help="The hosts' keys, on the server.")] = None,
    verify_ssh: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Public keys, of which one must have signed.")
    ] = None,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Follow a source: it is added to fnsync.yaml, and synced."""
    auth: dict[str, Any] = {}
    if token_env:
        auth["token"] = {"env": token_env}
    if ssh_key:
        auth["ssh_key"] = {"file": ssh_key}
    if known_hosts:
        auth["known_hosts"] = known_hosts
    given: dict[str, Any] = {
        "name": name,
        "url": source_url,
        "ref": ref,
        "path": path,
        "include": include,
        "ignore": ignore,
        "prefix": prefix,
        "interval": interval,
        "gate": gate,
        "prune": None if prune else False,
        "auth": auth,
        "verify": {"ssh": verify_ssh} if verify_ssh else None,
    }
    entry = {key: value for key, value in given.items() if value not in (None, [], {})}
    with connected(load_config(config), url, token) as client:
        added = client.post(ROUTE, entry).json()
        try:
            sync_source(client, added["name"])
        except FnsyncError as exc:
            exc.hint = "; ".join(filter(None, (exc.hint, _still_there(added["name"]))))
            raise
        found = client.get(f"{ROUTE}/{added['name']}")
    if json:
        print_json(found)
        return
    out = console()
    out.print(printable(f"source {found['name']} is followed: {found['url']}"))
    # Not what this sync came to: the server began one by itself, which may have been faster.
    for line in [*source_lines(found)][1:]:
        out.print(printable(line))
    for line in problem_lines(found):
        out.print(printable(f"  {line}"))
    if found["functions"].keys() - {"ready", "inactive"}:
        console(stderr=True).print("fnsync status tells what is wrong", style="yellow")


def _still_there(name: str) -> str:
    return f"it is in fnsync.yaml and is tried again; fnsync source remove {name} takes it out"


@app.command("list")
def list_sources(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one, with its commits.")] = None,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """List the sources and how they stand."""
    with connected(load_config(config), url, token) as client:
        found = client.get(ROUTE) if name is None else client.get(f"{ROUTE}/{name}")
    if json:
        print_json(found)
        return
    out = console()
    sources = found["sources"] if name is None else [found]
    if not sources:
        out.print("no sources yet; follow one with: fnsync source add URL")
    for source in sources:
        _print(source)
        for line in problem_lines(source):
            out.print(printable(f"  {line}"))
        if name is not None:
            for one in source["history"]:
                out.print(printable(f"  before  {_commit(one)}"))
    if found.get("problem"):
        out.print(printable(found["problem"]), style="red")


@app.command("remove")
def remove(name: Name, config: ConfigFile = None, url: Url = None, token: TokenText = None) -> None:
    """Follow a source no longer; its functions go."""
    with connected(load_config(config), url, token) as client:
        client.delete(f"{ROUTE}/{name}")
    console(stderr=True).print(printable(f"source {name} is removed"), style="dim")


@app.command("suspend")
def suspend(name: Name, config: ConfigFile = None, url: Url = None, token: TokenText = None) -> None:
    """Leave a source as it is; its functions go on answering."""
    with connected(load_config(config), url, token) as client:
        client.post(f"{ROUTE}/{name}/suspend", None)
    console(stderr=True).print(printable(f"source {name} is suspended"), style="dim")


@app.command("resume")
def resume(name: Name, config: ConfigFile = None, url: Url = None, token: TokenText = None) -> None:
    """Follow a suspended source again."""
    with connected(load_config(config), url, token) as client:
        client.post(f"{ROUTE}/{name}/resume", None)
    console(stderr=True).print(printable(f"source {name} is followed again"), style="dim")


# ---- what several commands show --------------------------------------------------------------------------


def sync_source(client: Client, name: str, *, force: bool = False) -> dict[str, Any]:
    """Have a source synced; shows on a terminal how far it is."""
    from fnsync.cli.progress import following  # start time: threads and Rich

    with following(lambda: client.get(f"{ROUTE}/{name}").get("progress"), f"syncing {name}"):
        found: dict[str, Any] = client.post(f"{ROUTE}/{name}/sync", {"force": force}).json()
        return found


def synced_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What a sync of a source came to."""
    name, before, after = found["source"], found["before"], found["commit"]
    held = found["held"]
    if held is not None:
        yield f"{name}: {held['message']}"
        yield f"  {held['hint']}"
    elif before == after:
        yield f"{name}: nothing new; {(after or 'nothing')[:8]} serves"
    else:
        past = f"{before[:8]} to " if before else ""
        yield f"{name}: {past}{after[:8]}" + ("; its history was rewritten" if found["rewritten"] else "")
        for commit in found["commits"]:
            yield f"  {commit['commit'][:8]} {commit['subject']} ({commit['author']})"
        if found["count"] > len(found["commits"]):
            yield f"  and {found['count'] - len(found['commits'])} older ones"
    for word in ("loaded", "applied", "removed"):
        if ids := found[word]:
            yield f"  {word}: {', '.join(ids[:20])}" + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
    for one in found["failed"]:
        error = one["error"]
        place = ":".join(str(error[key]) for key in ("path", "line") if error.get(key) is not None)
        yield f"  failed: {one['id']}: {place + ': ' if place else ''}{error['message']}"


def source_lines(source: Mapping[str, Any]) -> Iterator[str]:
    """How a source stands, in one line, without its state."""
    commit = source["commit"]
    ref = source["ref"] or "default branch"
    yield f"source {source['name']}: {source['url']} {ref}" + (f" {source['path']}" if source["path"] != "." else "")
    yield f"  serves  {_commit(commit)}" if commit else "  serves  nothing yet"
    counts = ", ".join(f"{count} {status}" for status, count in sorted(source["functions"].items()))
    yield f"  {_fetched(source)}; functions: {counts or 'none'}"


def problem_lines(source: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a source, and the way out."""
    error, held = source["error"], source["held"]
    if error:
        since = f" for {_ago(error['since'])}" if error.get("since") else ""
        again = f"; last try {_ago(source['tried_at'])} ago" if source.get("tried_at") else ""
        again += f"; next try in {_until(source['next_at'])}" if source.get("next_at") else ""
        yield f"fails{since}{again}: {error['message']}"
        if error.get("hint"):
            yield f"  {error['hint']}"
    if held:
        yield f"held: {held['message']}"
        yield f"  {held['hint']}"
    if source["pinned"] and not held:
        yield f"pinned at {source['pinned'][:8]}; `fnsync rollback {source['name']} --unpin` follows again"
    if source["progress"]:
        yield source["progress"]


def _print(source: Mapping[str, Any]) -> None:
    from rich.text import Text  # start time

    out = console()
    for place, line in enumerate(source_lines(source)):
        text = Text(printable(line))
        if place == 0:
            text.append(f"  {source['state']}", STYLES.get(source["state"], ""))
        out.print(text)


def _commit(commit: Mapping[str, Any]) -> str:
    tag = f" {commit['tag']}" if commit.get("tag") else ""
    signer = f", signed by {commit['signer']}" if commit.get("signer") else ""
    return f"{commit['commit'][:8]}{tag} {commit['subject'] or ''} ({commit['author'] or '?'}{signer})"


def _fetched(source: Mapping[str, Any]) -> str:
    if source["age_s"] is None:
        return "not fetched yet"
    from fnsync.units import format_duration  # start time

    return f"fetched {format_duration(round(source['age_s']))} ago"


def _ago(at: float) -> str:
    from fnsync.units import format_duration  # start time

    return format_duration(max(0, round(time.time() - at)))


def _until(at: float) -> str:
    from fnsync.units import format_duration  # start time

    return format_duration(max(0, round(at - time.time())))
