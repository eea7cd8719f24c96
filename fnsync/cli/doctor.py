"""`fnsync doctor`: what this machine supports, and what is missing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fnsync.cli import exits
from fnsync.cli.options import ConfigFile, Json
from fnsync.cli.output import console, print_json, printable

if TYPE_CHECKING:
    from fnsync.cli.checks import Finding

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "missing": ("✗", "red bold")}


def doctor(config: ConfigFile = None, json: Json = False) -> None:
    """Check this machine and this project; fails when something is missing that fnsync needs."""
    findings = examine(config)
    if json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        _show(findings)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(exits.FAILED)


def examine(file: Path | None) -> list[Finding]:
    """Everything that can be said here. A configuration that is wrong is a finding, too."""
    import os  # start time

    from fnsync.cli import checks, sourcechecks
    from fnsync.config import load
    from fnsync.errors import ConfigError

    findings = [check() for check in checks.MACHINE]
    try:
        config = load(file, os.environ)
    except ConfigError as exc:
        return [
            *findings,
            checks.Finding("configuration", "missing", exc.message, exc.hint or "see docs/configuration.md"),
        ]
    findings.append(checks.Finding("configuration", "ok", f"{file or os.environ.get('FNSYNC_CONFIG') or config.root}"))
    return [*findings, *(check(config) for check in checks.PROJECT), *sourcechecks.sources(config, os.environ)]


def _show(findings: list[Finding]) -> None:
    from rich.text import Text  # start time

    out = console()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, style = _MARKS[finding.state]
        out.print(Text.assemble((f"{mark} ", style), f"{finding.name:{width}}  ", printable(finding.detail)))
        if finding.hint and finding.state != "ok":
            out.print(Text(f"{'':{width}}    {printable(finding.hint)}", style="yellow"))
