"""Encrypts what must not stand in files in clear: secret valves, and the valves of users.

Fernet (AES-128-CBC with HMAC-SHA256), under the key of FNSYNC_SECRET_KEY, or under one that is made once and kept in
the data folder, outside git and readable by its owner only. Several keys may be given, in both places: the first
encrypts, all decrypt. What is encrypted is the value's JSON.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fnsync.errors import ConfigError, FnsyncError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

VARIABLE = "FNSYNC_SECRET_KEY"
#: In the data folder; a key in each line, the newest first.
FILE = "secret-key"

_BETWEEN = re.compile(r"[\s,]+")


class Undecipherable(FnsyncError):
    """A text that none of the keys decrypts."""

    code = "undecipherable"


class Vault:
    """Holds the keys; safe from any thread. Nothing of it shows a key."""

    def __init__(self, data: Path, environ: Mapping[str, str]) -> None:
        """`data` is the data folder. Keys are read, and made, when they are first needed."""
        self._path = data / FILE
        self._given = environ.get(VARIABLE, "")
        self._fernets: list[Fernet] = []
        #: Two threads must not both make a first key.
        self._turn = threading.RLock()

    @property
    def is_given(self) -> bool:
        """Whether FNSYNC_SECRET_KEY says which key encrypts."""
        return any(_BETWEEN.split(self._given))

    def check(self) -> None:
        """Raise ConfigError for a key in FNSYNC_SECRET_KEY that is none."""
        if self.is_given:
            _fernets(self._given, VARIABLE)

    def encrypt(self, value: Any) -> str:
        """A JSON value as text for a file. Raises ConfigError for a bad key, FnsyncError where none can be made."""
        return self._keys(make=True)[0].encrypt(msgspec.json.encode(value)).decode("ascii")

    def decrypt(self, text: str) -> Any:
        """The value of an encrypted text. Raises Undecipherable."""
        from cryptography.fernet import InvalidToken, MultiFernet  # start time

        try:
            return msgspec.json.decode(MultiFernet(self._keys()).decrypt(text.encode()))
        except (InvalidToken, msgspec.DecodeError, UnicodeEncodeError) as exc:
            raise Undecipherable("it was encrypted with another key", hint=f"set {VARIABLE} to that key") from exc

    def renew(self, text: str) -> str:
        """An encrypted text under the first key. Raises Undecipherable."""
        return self.encrypt(self.decrypt(text))

    def is_newest(self, text: str) -> bool:
        """Whether a text was encrypted with the first key. Raises Undecipherable where there is none."""
        from cryptography.fernet import InvalidToken  # start time

        try:
            self._keys()[0].decrypt(text.encode())
        except (InvalidToken, UnicodeEncodeError):
            return False
        return True

    def add_key(self) -> None:
        """Put a new key first, in the data folder. Raises ConfigError when the variable decides which key is first."""
        if self.is_given:
            raise ConfigError(
                f"the keys come from {VARIABLE}",
                hint=f"put a new key in front of the others there ({VARIABLE}=new,old), then rotate",
            )
        with self._turn:
            self._write([new_key(), *self._stored()])
            self._fernets = []

    def drop_old_keys(self) -> int:
        """Keep only the first key in the data folder; return how many went. For when nothing needs the others."""
        with self._turn:
            stored = self._stored()
            kept = [] if self.is_given else stored[:1]
            if stored != kept:
                self._write(kept)
                self._fernets = []
            return len(stored) - len(kept)

    # ---- keys --------------------------------------------------------------------------------------------

    def _keys(self, *, make: bool = False) -> list[Fernet]:
        """The keys, the first one first; with `make` there is one."""
        with self._turn:
            if not self._fernets:
                if make and not self.is_given and not self._stored():
                    self._write([new_key()])
                found = [*_fernets(self._given, VARIABLE), *_fernets("\n".join(self._stored()), str(self._path))]
                if not found:
                    raise Undecipherable("there is no key", hint=f"set {VARIABLE} to the key it was encrypted with")
                self._fernets = found
            return self._fernets

    def _stored(self) -> list[str]:
        try:
            return self._path.read_text(encoding="ascii", errors="replace").split()
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise ConfigError(f"{self._path} cannot be read: {exc.strerror}", hint="let the server read it") from exc

    def _write(self, keys: list[str]) -> None:
        fresh = self._path.with_name(f".{FILE}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write("".join(f"{key}\n" for key in keys))
                file.flush()
                os.fsync(descriptor)
            fresh.rename(self._path)
            _sync(self._path.parent)
        except OSError as exc:
            raise FnsyncError(f"{self._path} cannot be written: {exc.strerror}", hint=f"or set {VARIABLE}") from exc


def _sync(folder: Path) -> None:
    """Force a rename to disk: what a new key encrypts must not outlive it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_key() -> str:
    """A fresh key, as FNSYNC_SECRET_KEY takes it."""
    from cryptography.fernet import Fernet  # start time

    return Fernet.generate_key().decode("ascii")


def _fernets(text: str, where: str) -> list[Fernet]:
    """The keys of a text. Raises ConfigError, which says where and never what."""
    from cryptography.fernet import Fernet  # start time

    try:
        return [Fernet(key) for key in _BETWEEN.split(text) if key]
    except ValueError as exc:
        raise ConfigError(
            f"{where} holds something that is no key", hint="`fnsync secrets new-key` prints one that is"
        ) from exc
