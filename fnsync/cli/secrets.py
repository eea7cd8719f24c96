"""`fnsync secrets`: the keys that secret valves and the valves of users are encrypted with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from fnsync.cli import exits
from fnsync.cli.nearby import server_or_none
from fnsync.cli.options import ConfigFile, Json, TokenText, Url, load_config
from fnsync.cli.output import console, print_json, printable

if TYPE_CHECKING:
    from fnsync.config import Config

app = typer.Typer(help="Make keys, and encrypt everything with a new one.", no_args_is_help=True)

ROUTE = "/api/secrets/rotate"


@app.command("new-key")
def new_key() -> None:
    """Print a new key, for FNSYNC_SECRET_KEY. It is kept nowhere."""
    from fnsync.vault import new_key as make  # start time

    typer.echo(make())


@app.command("rotate")
def rotate(config: ConfigFile = None, url: Url = None, token: TokenText = None, json: Json = False) -> None:
    """Encrypt everything with a new key, or with the first of FNSYNC_SECRET_KEY, and forget the old ones."""
    settings = load_config(config)
    with server_or_none(settings, url, token) as client:
        report = dict(client.post(ROUTE, None).json()) if client is not None else _here(settings)
    if json:
        print_json(report)
    else:
        show(report)
    if report["kept"] or report["proposal"]:
        raise typer.Exit(exits.FAILED)


def _here(config: Config) -> dict[str, Any]:
    """Do it in this process."""
    from fnsync import offline  # start time, as all that the parts of a server need
    from fnsync.api.secrets import rotation_told
    from fnsync.edits.manager import Terms
    from fnsync.model import User
    from fnsync.service import Service

    async def work(service: Service, admin: User) -> dict[str, Any]:
        await service.reconciler.settled()
        return rotation_told(await service.rotation.run(Terms(admin)))

    return offline.run(config, os.environ, work)


def show(report: Mapping[str, Any]) -> None:
    """Print what was done, and what keeps the old keys."""
    out = console()
    commit = f", commit {report['commit'][:8]}" if report["commit"] else ""
    out.print(f"{report['settings']} values in settings files{commit}, {report['user_valves']} of users")
    for one in report["kept"]:
        what = " ".join(filter(None, (one["function"], one["field"], one["user"] and f"of user {one['user']}")))
        out.print(printable(f"{what}: {one['reason']}"), style="yellow")
    told = console(stderr=True)
    if report["proposal"]:
        told.print(printable(f"{report['proposal']['detail']}; rotate again when it is merged"), style="yellow")
    elif report["kept"]:
        told.print("the old keys are kept, since these may still need them", style="yellow")
    elif report["given"]:
        told.print("all but the first key may be taken out of FNSYNC_SECRET_KEY", style="dim")
    else:
        told.print("the old key is dropped", style="dim")
