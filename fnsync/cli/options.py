"""Options that several commands share, and the configuration they lead to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fnsync.config import Config


def _or_the_one_before_the_command(context: typer.Context, value: Path | None) -> Path | None:
    """`fnsync -C FILE status` and `fnsync status -C FILE` are the same."""
    if context.parent is None:
        context.obj = value
    return value or context.obj


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-C",
        metavar="FILE",
        help="Configuration file. [default: $FNSYNC_CONFIG, else the nearest fnsync.yaml here or above]",
        callback=_or_the_one_before_the_command,
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Address of the server. [default: the one that runs here]"),
]
TokenText = Annotated[
    str | None,
    typer.Option(
        "--token", metavar="TOKEN", help="[default: $FNSYNC_TOKEN, $FNSYNC_ADMIN_TOKEN or the admin token made here]"
    ),
]


def load_config(file: Path | None) -> Config:
    """Read the configuration as the server does. Raises ConfigError."""
    from fnsync.config import load  # start time: pydantic and YAML

    return load(file, os.environ)
