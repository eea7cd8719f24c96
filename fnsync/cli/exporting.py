"""`fnsync export`: writes functions in the format of Open WebUI's export."""

from __future__ import annotations

import json as jsonlib
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnsync.cli.nearby import server_or_none
from fnsync.cli.options import ConfigFile, TokenText, Url, load_config
from fnsync.cli.output import console, printable
from fnsync.errors import Invalid, NotFound

if TYPE_CHECKING:
    from fnsync.cli.client import Client
    from fnsync.config import Config

STDOUT = "-"


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Written anew, whatever is in it; - is stdout.")] = STDOUT,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="These alone. [default: all]")] = None,
    valves: Annotated[
        bool, typer.Option("--valves/--no-valves", help="With the stored valves, secrets in clear.")
    ] = False,
    config: ConfigFile = None,
    url: Url = None,
    token: TokenText = None,
) -> None:
    """Write functions as an export that fnsync import and Open WebUI take."""
    settings = load_config(config)
    with server_or_none(settings, url, token) as client:
        found = _through(client, ids, valves) if client is not None else _here(settings, ids, valves)
    _check_meant(file, ids, found)
    data = (jsonlib.dumps(found, ensure_ascii=False, indent=2) + "\n").encode()
    if file == STDOUT:
        sys.stdout.write(data.decode())
        sys.stdout.flush()
    else:
        _write(Path(file), data, private=valves)
        out = console(stderr=True)
        out.print(f"{len(found)} function{'s' if len(found) != 1 else ''} in {printable(file)}", style="dim")
    if valves and any(one["valves"] for one in found):
        console(stderr=True).print("it holds the values of valves, secrets among them in clear", style="yellow")


def _through(client: Client, ids: list[str] | None, valves: bool) -> list[dict[str, Any]]:
    """Have the running server give them."""
    asked = {"ids": ",".join(ids)} if ids else {}
    found: list[dict[str, Any]] = client.get("/api/functions/export", include_valves=valves, **asked)
    return found


def _here(config: Config, ids: list[str] | None, valves: bool) -> list[dict[str, Any]]:
    """Read them in this process."""
    import asyncio  # start time, as all that the parts of a server need

    from fnsync import offline
    from fnsync.edits.transfer import Transfer
    from fnsync.model import User
    from fnsync.service import Service

    if not config.functions.is_dir():
        raise NotFound(f"there is no project here, since there is no {config.functions}")

    async def work(service: Service, admin: User) -> list[dict[str, Any]]:
        await service.reconciler.settled()  # a filter's toggle is known when it was loaded
        transfer = Transfer(service.manager)
        return await asyncio.to_thread(transfer.exported, ids or None, include_valves=valves)

    return offline.run(config, os.environ, work)


def _check_meant(file: str, ids: list[str] | None, found: list[dict[str, Any]]) -> None:
    """Raise Invalid for a function's id where the file should be named."""
    if not ids and file in {one["id"] for one in found} and not Path(file).exists():
        raise Invalid(f"{file} is a function, and what comes first is the file", hint=f"fnsync export - {file}")


def _write(path: Path, data: bytes, *, private: bool) -> None:
    """Put a file in its place, whole or not at all; with `private` for its owner only. Raises Invalid."""
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)  # a pipe or a device; for a folder it fails
        else:
            _replace(path.resolve(), data, 0o600 if private else 0o666)
    except OSError as exc:
        raise Invalid(f"{path} cannot be written: {exc.strerror or exc}") from exc


def _replace(path: Path, data: bytes, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
