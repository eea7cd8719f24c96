"""The part of a settings file that tells what a function is: its `name` and `meta`. All else says how it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fnsync import yamltext

#: A settings file has at most so many.
MAX_BYTES = 256 * 1024
#: One of them is in every text that says a name or a meta: as a word, or as an escape of its letters.
_SIGNS = (b"name", b"meta", b"\\")


@dataclass(frozen=True, slots=True)
class Labels:
    """What a settings file says of name and meta."""

    name: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        """Equal for equal labels only: unlike `==`, it tells true from 1. The order of keys plays no part."""
        return msgspec.json.encode((self.name, self.meta), order="deterministic")


def read(data: bytes) -> Labels:
    """The labels in a settings file's content; none in one that is absent (b"") or no good.

    What is wrong elsewhere in the file plays no part, so that older and newer files can be read too.
    """
    if not any(sign in data for sign in _SIGNS):
        return Labels()
    try:
        value = yamltext.load(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, yamltext.YamlError):
        return Labels()
    found = value.data if value is not None and isinstance(value.data, dict) else {}
    name, meta = (found[key].plain() if key in found else None for key in ("name", "meta"))
    return Labels(name if isinstance(name, str) and name else None, meta if isinstance(meta, dict) else {})
