"""Whether a change to a settings file is one of the function's name or meta."""

from __future__ import annotations

from fnsync import labels
from fnsync.errors import LostObject
from fnsync.git.blobs import Blobs
from fnsync.git.log import Delta
from fnsync.places import settings_of


class Labelling:
    """Reads settings files as they were; each content once."""

    def __init__(self, blobs: Blobs | None) -> None:
        """Without `blobs` nobody can read them, and each other content counts as another name."""
        self._blobs = blobs
        self._keys: dict[str | None, bytes] = {None: labels.Labels().key}

    def counts(self, path: str, source: str, delta: Delta) -> bool:
        """Whether a change to one of a function's files changed what the function is. Raises RepositoryError."""
        if path != settings_of(source):
            return delta.alters
        return delta.before != delta.after and self.key(delta.before) != self.key(delta.after)

    def key(self, id: str | None) -> bytes:
        """Equal for blobs with equal name and meta; None: there is no settings file. Raises RepositoryError."""
        key = self._keys.get(id)
        if key is None:
            assert id is not None
            key = id.encode() if self._blobs is None else labels.read(self._read(id, self._blobs)).key
            self._keys[id] = key
        return key

    def _read(self, id: str, blobs: Blobs) -> bytes:
        try:
            return blobs.read(id, labels.MAX_BYTES) or b""
        except LostObject:  # that an old name is lost must not take away all that is known
            return b""
