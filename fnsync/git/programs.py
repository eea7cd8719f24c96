"""Runs the programs that check signatures."""

from __future__ import annotations

import os
import subprocess

from fnsync.errors import ConfigError, VerificationFailed

LIMIT_S = 30.0
_KEPT = ("PATH", "TZ", "TMPDIR", "HOME")
_SAID_CHARACTERS = 400
_PACKAGES = {"ssh-keygen": "OpenSSH 8.2 or newer, on Debian openssh-client", "gpg": "GnuPG, on Debian gpg"}


def run(program: str, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit code, output, and what it said. Raises ConfigError where it is not installed, VerificationFailed at the
    time limit."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            [program, *arguments], input=stdin, capture_output=True, env=environment, timeout=LIMIT_S, check=False
        )
    except FileNotFoundError as exc:
        raise ConfigError(
            f"signatures cannot be checked: {program} is not installed here", hint=f"install {_PACKAGES[program]}"
        ) from exc
    except subprocess.TimeoutExpired as exc:
        raise VerificationFailed(f"{program} took longer than {LIMIT_S:g} s to check a signature") from exc
    said = done.stderr.decode(errors="replace").strip()[-_SAID_CHARACTERS:]
    return done.returncode, done.stdout.decode(errors="replace"), said
