"""The admin token that a server has from its first start on."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fnsync.store.state import State, digest

#: In the data folder, mode 600: the command line of the same machine user reads it.
FILE = "admin-token"
VARIABLE = "FNSYNC_ADMIN_TOKEN"


@dataclass(frozen=True, slots=True)
class AdminToken:
    """`generated`: made here and kept in the file; else it was given from outside and is not repeated anywhere."""

    text: str
    generated: bool

    def __repr__(self) -> str:
        return f"AdminToken(generated={self.generated})"


def admin_token(state: State, data: Path, environ: Mapping[str, str]) -> AdminToken:
    """The token of the variable, or that of the file, made if it is missing or was revoked; blocking."""
    given = environ.get(VARIABLE)
    path = data / FILE
    if given:
        path.unlink(missing_ok=True)
        return AdminToken(given, generated=False)
    if path.exists():
        text = path.read_text(encoding="ascii", errors="replace").strip()
        if any(hmac.compare_digest(token.digest, digest(text)) for token in state.tokens()):
            return AdminToken(text, generated=True)
    _, text = state.add_token(state.ensure_admin().id, "made at the first start")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text + "\n")
    return AdminToken(text, generated=True)
