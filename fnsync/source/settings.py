"""Settings files."""

from __future__ import annotations

from fnsync.errors import SourceError
from fnsync.model import Settings

SettingsError = SourceError


def parse(text: str, path: str) -> Settings:
    """Return the settings. Raises SettingsError with path, line, and the key in its message."""
    raise NotImplementedError
