"""How units and function rows are written into the index and read from it; no I/O.

A unit is one MessagePack blob. A row has a column per field, with JSON for what is nested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from fnsync.model import FunctionRow, Kind, Problem, RowSummary, Status, Unit

COLUMNS = tuple(field.name for field in fields(FunctionRow))
#: The columns of a RowSummary.
SUMMARY = (
    *("version", "id", "user_id", "type", "name", "meta", "is_active", "is_global", "updated_at", "created_at"),
    "source",
)
_JSON_COLUMNS = ("meta", "valves", "error", "rivals")


def _shape(kind: type) -> str:
    """The fields of a class and of the classes they are made of, for telling an older form."""
    schema = msgspec.json.schema(kind)
    return msgspec.json.encode(schema, order="deterministic").decode()


#: Changes when a class that is stored changes.
SHAPE = _shape(Unit) + _shape(FunctionRow)

_unit_encoder = msgspec.msgpack.Encoder()
_unit_decoder = msgspec.msgpack.Decoder(Unit)
_problem_decoder = msgspec.json.Decoder(Problem)


def unit_data(unit: Unit) -> bytes | None:
    """The unit's blob; None when it would not come back equal (YAML knows values that MessagePack does not)."""
    try:
        data = _unit_encoder.encode(unit)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return data if _unit(data) == unit else None


def unit(data: bytes) -> Unit | None:
    """The unit of a blob; None when it is none."""
    return _unit(data)


def _unit(data: bytes) -> Unit | None:
    try:
        return _unit_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def row_values(row: FunctionRow) -> tuple[Any, ...]:
    """A value per column."""
    return tuple(_column(name, getattr(row, name)) for name in COLUMNS)


def row(values: tuple[Any, ...]) -> FunctionRow:
    """The row of a value per column."""
    given = dict(zip(COLUMNS, values, strict=True))
    return FunctionRow(
        **given
        | {
            "type": None if given["type"] is None else Kind(given["type"]),
            "meta": msgspec.json.decode(given["meta"]),
            "valves": msgspec.json.decode(given["valves"]),
            "is_active": bool(given["is_active"]),
            "is_global": bool(given["is_global"]),
            "status": Status(given["status"]),
            "error": None if given["error"] is None else _problem_decoder.decode(given["error"]),
            "rivals": tuple(msgspec.json.decode(given["rivals"])),
        }
    )


def summary(values: tuple[Any, ...]) -> RowSummary:
    """The summary of a value per column of SUMMARY."""
    version, id, user_id, kind, name, meta, is_active, is_global, updated_at, created_at, source = values
    return RowSummary(
        version,
        id,
        user_id,
        kind,
        name,
        msgspec.Raw(meta.encode()),
        bool(is_active),
        bool(is_global),
        updated_at,
        created_at,
        source,
    )


def _column(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _JSON_COLUMNS:
        return _json(value)
    if isinstance(value, str):
        return _text(value)
    return value


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError):
        return msgspec.json.encode(_plain(msgspec.to_builtins(value) if isinstance(value, Problem) else value)).decode()


def _plain(value: Any) -> Any:
    """The nearest value that JSON has, for what YAML may hold: dates as keys, lone surrogates, sets, huge numbers."""
    match value:
        case None | bool():
            return value
        case str():
            return _text(value)
        case int():
            return value if abs(value) < 2**63 else str(value)
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {_text(str(key)): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case bytes():
            return value.decode(errors="replace")
    return _text(str(value))


def _text(value: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot hold."""
    return value if value.isascii() else value.encode(errors="replace").decode()
