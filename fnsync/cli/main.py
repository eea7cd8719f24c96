"""The command line: what commands there are, and how a run of one ends."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from fnsync.cli import (
    check,
    doctor,
    exits,
    exporting,
    history,
    importing,
    invoke,
    logs,
    options,
    plan,
    project,
    rollback,
    secrets,
    serve,
    source,
    status,
    sync,
    token,
    user,
)
from fnsync.cli.output import print_error
from fnsync.errors import FnsyncError

app = typer.Typer(
    name="fnsync",
    help="Keeps chat functions in git and runs them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # start time

        typer.echo(version("fnsync"))
        raise typer.Exit


@app.callback()
def before(
    config: options.ConfigFile = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Keeps chat functions in git and runs them."""


app.command("init")(project.init)
app.command("serve")(serve.serve)
app.command("dev")(serve.dev)
app.command("status")(status.status)
app.command("invoke")(invoke.invoke)
app.command("logs")(logs.logs)
app.command("sync")(sync.sync)
app.command("plan")(plan.plan)
app.command("history")(history.history)
app.command("diff")(history.diff)
app.command("rollback")(rollback.rollback)
app.command("import")(importing.import_)
app.command("export")(exporting.export)
app.add_typer(source.app, name="source")
app.add_typer(token.app, name="token")
app.add_typer(user.app, name="user")
app.add_typer(secrets.app, name="secrets")
app.command("check")(check.check)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        app()
    except FnsyncError as exc:
        print_error(exc)
        sys.exit(exits.exit_code(exc))
    except KeyboardInterrupt:
        sys.exit(exits.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not write to it again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(exits.FAILED)


if __name__ == "__main__":
    main()
