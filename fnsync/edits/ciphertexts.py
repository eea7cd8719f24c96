"""Encrypted values in settings files and in what serves: which are not under the newest key, and those under it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fnsync.edits.drafts import Drafting
from fnsync.errors import FnsyncError
from fnsync.model import reference_of
from fnsync.source import settings
from fnsync.vault import Undecipherable, Vault

LOST = "none of the keys decrypts it"
_IN_PIECES = "it is not written in one line"

#: An encrypted text, wherever it stands: its version and the high bits of its time are the same in all.
_TOKEN = re.compile(r"gAAAAA[A-Za-z0-9_-]{40,}={0,2}")


@dataclass(frozen=True, slots=True)
class Kept:
    """What is not under the newest key, and so keeps the old ones."""

    #: The function.
    function: str
    reason: str
    #: The valve; None: all of them.
    field: str | None = None
    #: Whose value it is; None: the function's own.
    user: str | None = None


@dataclass(slots=True)
class Renewal:
    """One pass over settings files. Blocking."""

    vault: Vault
    renewed: int = 0
    kept: list[Kept] = field(default_factory=list)

    def take(self, drafting: Drafting, path: str, function: str | None) -> None:
        """Encrypt anew what a file holds, and change nothing else in it, so that it may be of any form.

        Of a function's settings file, what is left is told; of another, whatever it is, what can be decrypted is
        renewed.
        """
        try:
            text = drafting.rewrite(path, self._renewed)
            if function is not None:
                self.kept += left(function, settings.parse(text, path).valves, self.vault)
        except FnsyncError as exc:
            if function is not None:
                self.kept.append(Kept(function, f"its settings file cannot be read: {exc.message}"))

    def _renewed(self, text: str) -> str:
        return _TOKEN.sub(lambda match: self._renew(match[0]), text)

    def _renew(self, token: str) -> str:
        if self.vault.is_newest(token):
            return token
        try:
            fresh = self.vault.renew(token)
        except Undecipherable:
            return token
        self.renewed += 1
        return fresh


def holds_old(text: str, vault: Vault) -> bool:
    """Whether a text holds what would have to be encrypted anew; with a generated key that is all there is."""
    return any(
        _is_ours(token, vault) and (not vault.is_given or not vault.is_newest(token)) for token in _TOKEN.findall(text)
    )


def _is_ours(token: str, vault: Vault) -> bool:
    try:
        vault.decrypt(token)
    except Undecipherable:
        return False
    return True


def renewed(valves: Mapping[str, Any], vault: Vault) -> dict[str, Any]:
    """The same stored values, the encrypted ones with the newest key, as far as they can be decrypted."""
    made = dict(valves)
    for name, text in _encrypted(valves):
        try:
            if not vault.is_newest(text):
                made[name] = {"secret": vault.renew(text)}
        except Undecipherable:
            continue
    return made


def left(function: str, valves: Mapping[str, Any], vault: Vault) -> Iterator[Kept]:
    """Which stored values are not under the newest key."""
    for name, text in _encrypted(valves):
        if not vault.is_newest(text):
            yield Kept(function, _IN_PIECES if _is_ours(text, vault) else LOST, f"valves.{name}")


def _encrypted(valves: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in valves.items():
        match reference_of(value):
            case ("secret", text):
                yield name, text
