"""`fnsync rollback`: a function back to a version of it, in one commit; a source back to a commit, and pinned there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnsync.cli import exits
from fnsync.cli.client import Client, connected, place
from fnsync.cli.history import SHORT, subject, who
from fnsync.cli.nearby import server_or_none
from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import console, print_json, printable
from fnsync.cli.past import Here, There
from fnsync.errors import Conflict, FnsyncError, Invalid, NotFound

if TYPE_CHECKING:
    from fnsync.config import Config

#: What the functions folder is called among sources.
LOCAL = "local"
#: How many versions are looked at for the one that is named.
SEARCHED = 1000
#: How many of those that are undone are told.
TOLD = 5


def rollback(
    name: Annotated[str, typer.Argument(metavar="ID|SOURCE", help="A function, or a source.")],
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="[VERSION|COMMIT]", help="What to go back to. [default: the one before]", show_default=False
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    message: Annotated[
        str | None, typer.Option("--message", metavar="TEXT", help="Of the commit; for a function.")
    ] = None,
    unpin: Annotated[bool, typer.Option("--unpin", help="Have a source follow its ref again.")] = False,
    release: Annotated[
        str | None,
        typer.Option("--release", metavar="ID", help="Have a source take a function again that was rolled back."),
    ] = None,
    source: Annotated[
        bool | None,
        typer.Option("--source/--function", help="Which it is, where both have the name.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Go back to a version of a function, in one commit; or to a commit of a source, and stay there."""
    settings = load_config(config)
    if (unpin or release) and (version or (unpin and release)):
        raise Invalid("--unpin and --release go alone", hint=f"fnsync rollback {name} --unpin")
    is_source = unpin or release is not None or _means_source(settings, name, source, url, token)
    if is_source:
        with connected(settings, url, token) as client:
            told = _roll_source_back(client, name, version, yes=yes, unpin=unpin, release=release)
    else:
        told = _roll_function_back(settings, name, version, message, yes=yes, url=url, token=token)
    if json:
        print_json(told)
    else:
        console().print(printable(str(told["detail"])))


# ---- a function ------------------------------------------------------------------------------------------


def _roll_function_back(
    config: Config, id: str, version: str | None, message: str | None, *, yes: bool, url: str | None, token: str | None
) -> dict[str, Any]:
    with server_or_none(config, url, token) as client:
        here = Here(config) if client is None else There(client)
        known = here.versions(id, SEARCHED)
        if client is not None and known["source"] != LOCAL:
            return _hold_back(client, known, version, yes=yes)
        target, undone = chosen(known, version)
        if not yes:
            _ask(known, target, undone)
        # What was shown is what is undone; and what was in no commit is then kept in one of its own.
        seen = known["disk"]["revision"]
        if client is None:
            done = _alone(config, id, target["id"], message, seen)
        else:
            body = {"version_id": target["id"], "commit_message": message}
            headers = {"If-Match": f'"{seen}"'} if seen else {}
            answer = client.post(place("functions", "id", id, "update", "version"), body, headers)
            proposal = answer.json() if answer.status_code == 202 else None
            done = {"commit": answer.headers.get("X-Fnsync-Commit"), "proposal": proposal}
    return {"id": id, "version": target["id"], **done, "detail": _told(id, target, done)}


def _hold_back(client: Client, known: Mapping[str, Any], version: str | None, *, yes: bool) -> dict[str, Any]:
    """Have a function of a source answer as it was."""
    id, source = known["id"], known["source"]
    if not yes:
        to = version or "the last commit in which it was another"
        confirm(f"{id} of the source {source} goes back to {to}, and its newest revision is not taken again; go on?")
    body = {"id": id, "commit": version}
    told = dict(client.post(place("sources", source, "functions", "rollback"), body).json())
    if told["failed"]:
        raise FnsyncError(f"{id} did not load: {told['failed'][0]['error']['message']}")
    detail = f"{id} is what it was; fnsync rollback {source} --release {id} has its newest revision taken again"
    return {**told, "detail": detail}


def chosen(known: Mapping[str, Any], version: str | None) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """The version to go back to, and those that this undoes, newest first. Raises NotFound, Conflict."""
    versions: list[Mapping[str, Any]] = known["versions"]
    if version is None:
        place = 0 if known["uncommitted"] else 1
        if place >= len(versions):
            raise NotFound(f"there is no version of {known['id']} before this one", hint="see fnsync history")
        return versions[place], versions[:place]
    found = [place for place, one in enumerate(versions) if one["id"].startswith(version.lower())]
    if not found:
        raise NotFound(
            f"{version!r} is no version of {known['id']}", hint=f"fnsync history {known['id']} lists those there are"
        )
    if len(found) > 1:
        raise Conflict(f"{len(found)} versions of {known['id']} begin with {version}", hint="give more digits")
    return versions[found[0]], versions[: found[0]]


def _ask(known: Mapping[str, Any], target: Mapping[str, Any], undone: list[Mapping[str, Any]]) -> None:
    aside = console(stderr=True)
    aside.print(f"{known['id']} goes back to {_shown(target)}")
    if known["uncommitted"]:
        aside.print("  what is on disk is in no commit: it is kept in one of its own first", style="yellow")
    for one in undone[:TOLD]:
        aside.print(f"  undone: {_shown(one)}")
    if len(undone) > TOLD:
        aside.print(f"  and {len(undone) - TOLD} more before them")
    confirm("go back?")


def confirm(question: str) -> None:
    """Ask; ends the command unless it is answered yes. Raises Invalid where nobody is there."""
    console(stderr=True).print(printable(question), "[y/N] ", end="")
    # Not `typer.confirm`: it writes to stdout, where the data goes.
    answer = sys.stdin.readline()
    if not answer:
        raise Invalid("nobody is there to be asked", hint="say it with --yes")
    if answer.strip().lower() not in ("y", "yes"):
        console(stderr=True).print("nothing was changed", style="dim")
        raise typer.Exit(exits.FAILED)


def _alone(config: Config, id: str, version: str, message: str | None, seen: str | None) -> dict[str, Any]:
    """Do it in this process."""
    import os  # start time, as all that the parts of a server need

    from fnsync import offline
    from fnsync.api.functions import proposed
    from fnsync.edits.manager import Terms
    from fnsync.model import FunctionId, User
    from fnsync.service import Service

    async def work(service: Service, admin: User) -> dict[str, Any]:
        written = await service.manager.roll_back(FunctionId(id), version, Terms(admin, message, seen))
        proposal = None if written.proposal is None else proposed(written.proposal)
        return {"commit": written.commit, "proposal": proposal}

    return offline.run(config, os.environ, work)


def _told(id: str, target: Mapping[str, Any], done: Mapping[str, Any]) -> str:
    if done["proposal"] is not None:
        return str(done["proposal"]["detail"])
    if done["commit"] is None:
        return f"{id} is what it was at {target['id'][:SHORT]} already"
    return f"{id} is what it was at {target['id'][:SHORT]} again; commit {done['commit'][:SHORT]}"


def _shown(version: Mapping[str, Any]) -> str:
    return printable(f"{version['id'][:SHORT]} {subject(version)} ({who(version)})")


# ---- a source --------------------------------------------------------------------------------------------


def _means_source(config: Config, name: str, said: bool | None, url: str | None, token: str | None) -> bool:
    """Whether a name is a source's, by the configuration here. Raises Conflict if it may be a function's as well."""
    if said is not None:
        return said
    if url is not None or name not in {source.name for source in config.sources}:
        return False
    from fnsync.source.discovery import id_of, scan  # start time

    if name in {id_of(path) for path in scan(config.functions).sources}:
        raise Conflict(f"{name} is a source and a function", hint="say which: --source or --function")
    return True


def _roll_source_back(
    client: Client, name: str, commit: str | None, *, yes: bool, unpin: bool, release: str | None
) -> dict[str, Any]:
    if not yes and not unpin and release is None:
        confirm(f"the source {name} goes back to {commit or 'the commit before'} and stays there until --unpin; go on?")
    if release is not None:
        told = client.post(place("sources", name, "functions", "release"), {"id": release}).json()
        return {**told, "detail": f"{name} takes {release} again"}
    if unpin:
        told = client.post(place("sources", name, "unpin"), {}).json()
        return {**told, "detail": f"{name} follows its ref again"}
    told = client.post(place("sources", name, "rollback"), {"commit": commit}).json()
    at = (told.get("commit") or "?")[:SHORT]
    return {**told, "detail": f"{name} is at {at} and stays there; fnsync rollback {name} --unpin has it follow again"}
