"""Whether a server runs that work is to go through, or none, so that a command may do it itself."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fnsync.cli.client import Address, Client, find_server, find_token
from fnsync.cli.exits import NoServer

if TYPE_CHECKING:
    from fnsync.config import Config

#: How long a server may take to say that it is there, in seconds.
PATIENCE_S = 5.0


@contextmanager
def server_or_none(config: Config, url: str | None, token: str | None) -> Iterator[Client | None]:
    """A client of the server; None: none has the data folder. Raises NoServer for one that has and does not answer."""
    address = _running(config, url)
    if address is None:
        yield None
        return
    client = Client(address, find_token(config.data, address, token, os.environ))
    try:
        yield client
    finally:
        client.close()


def _running(config: Config, url: str | None) -> Address | None:
    try:
        address = find_server(config.data, url)
    except NoServer as exc:
        holder = _holder(config)
        if holder is None:
            return None
        message = f"a server (pid {holder}) has {config.data}, and has not told where it is"
        raise NoServer(message, hint="wait until it has started, or stop it") from exc
    if _answers(address):
        return address
    holder = None if url else _holder(config)
    if url is None and holder is None:
        return None  # it died, and could not take server.json along
    has = f", but a server (pid {holder}) has {config.data}" if holder else ""
    raise NoServer(f"no server answers at {address.url}{has}", hint="nothing was changed; see what it is doing")


def _answers(address: Address) -> bool:
    """Whether a server of ours is there, whoever asks."""
    import httpx  # start time

    options = {"timeout": PATIENCE_S, "trust_env": not address.is_local, "verify": address.url.startswith("https://")}
    try:
        answer = httpx.get(f"{address.url}/healthz", **options)  # type: ignore[arg-type]
        return answer.is_success and answer.json() == {"status": True}
    except (httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError):
        return False


def _holder(config: Config) -> str | None:
    """The process that has the data folder; None: nobody."""
    try:
        with (config.data / "lock").open(encoding="ascii", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(20).strip() or "unknown"
    except OSError:
        pass  # no server has run here
    return None
