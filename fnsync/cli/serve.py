"""`fnsync serve` and `fnsync dev`."""

from __future__ import annotations

import gc
import os
from typing import Annotated

import typer

from fnsync.cli.options import ConfigFile

Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="Listen here instead of server.host.")]
Port = Annotated[int | None, typer.Option("--port", metavar="PORT", help="Listen here instead of server.port.")]


def serve(config: ConfigFile = None, host: Host = None, port: Port = None) -> None:
    """Serve the functions until stopped."""
    _run(config, host, port, dev=False)


def dev(config: ConfigFile = None, host: Host = None, port: Port = None) -> None:
    """Serve the functions, and tell what each saved file came to."""
    _run(config, host, port, dev=True)


def _run(file: ConfigFile, host: str | None, port: int | None, *, dev: bool) -> None:
    gc.disable()  # what is imported stays: `launch` turns it on again
    from fnsync.config import load  # start time of the other commands

    environ = dict(os.environ)
    for variable, value in (("FNSYNC_SERVER__HOST", host), ("FNSYNC_SERVER__PORT", port)):
        if value is not None:
            environ[variable] = str(value)
    config = load(file, environ)

    from fnsync.launch import run  # start time of the other commands
    from fnsync.service import Listeners

    if not dev:
        raise typer.Exit(run(config, environ=environ))

    from fnsync.cli.reloads import Reloads

    reloads = Reloads(config.functions)
    listeners = Listeners(reloads.show, reloads.show_environment, reloads.show_line)
    raise typer.Exit(run(config, environ=environ, listeners=listeners))
