"""Whether a function is already what an entry of an export says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fnsync.edits.drafts import COMPUTED
from fnsync.edits.entries import Entry
from fnsync.edits.valves import valves_of
from fnsync.model import FunctionRow
from fnsync.vault import Undecipherable, Vault


def is_same(row: FunctionRow, entry: Entry, vault: Vault) -> bool:
    """Whether an export of the function would say what the entry says, computed keys, times and owner aside."""
    manifest = row.meta["manifest"]
    name = entry.content.name or str(manifest.get("title") or row.id)
    said = {key: value for key, value in entry.content.meta.items() if value is not None}
    meta = {"description": str(manifest.get("description") or ""), **said}
    return (
        (row.content, row.name) == (entry.content.text, name)
        and (row.is_active, row.is_global) == (entry.active, entry.is_global)
        and _json(_without(row.meta, COMPUTED)) == _json(_without(meta, COMPUTED))
        and _has_values(row, entry, vault)
    )


def _has_values(row: FunctionRow, entry: Entry, vault: Vault) -> bool:
    if entry.valves is None:
        return True
    given = {name: value for name, value in entry.valves.items() if value is not None}
    try:
        return _json(valves_of(row, vault)) == _json(given)
    except Undecipherable:
        return False


def _without(values: Mapping[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _json(value: Mapping[str, Any]) -> str:
    """Equal for equal values only; `==` takes true for 1."""
    return json.dumps(value, sort_keys=True)
