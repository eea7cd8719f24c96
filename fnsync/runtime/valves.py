"""What workers tell about valves, as the server's own values; a worker is not trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from fnsync.errors import FunctionError, InvalidValves, NotFound
from fnsync.model import Manifest, Misfit, Problem, reference_of
from fnsync.runtime import wire

T = TypeVar("T")

#: What is kept of a worker's misfits: so many, and of each text so many characters.
MOST_MISFITS, MISFIT_CHARACTERS = 50, 1000
#: Methods of one class that are asked for options.
MOST_METHODS = 16


def told(reply: wire.Reply, kind: type[T]) -> T:
    """What the worker answered. Raises ValueError for what is too large, or of another type."""
    if len(reply.data) > wire.TOLD_BYTES:
        raise ValueError(f"{len(reply.data):,} bytes are too much; {wire.TOLD_BYTES:,} are allowed")
    try:
        return msgspec.json.decode(reply.data, type=kind)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def misfits_of(found: Iterable[wire.Misfit]) -> tuple[Misfit, ...]:
    """The misfits that a worker told, cut to what is kept."""
    return tuple(
        Misfit(misfit.field[:MISFIT_CHARACTERS], misfit.message[:MISFIT_CHARACTERS], misfit.missing)
        for misfit in list(found)[:MOST_MISFITS]
    )


def problem_of(misfits: tuple[Misfit, ...]) -> Problem:
    """What a status says of stored valves that do not fit."""
    return Problem(
        "valves",
        f"valves do not fit: {'; '.join(map(str, misfits))}",
        hint="correct the values under `valves:` in the settings file",
    )


def check_sendable(values: Mapping[str, Any]) -> None:
    """Raises InvalidValves for values that no worker can be given: numbers and texts that frames cannot carry."""
    misfits = []
    for name, value in values.items():
        try:
            wire.encode_value({name: value})
        except (OverflowError, UnicodeEncodeError, TypeError, ValueError, RecursionError) as exc:
            misfits.append(Misfit(name, f"a function cannot be given this: {_without_value(exc)}"))
    if misfits:
        raise InvalidValves(tuple(misfits[:MOST_MISFITS]))


def _without_value(exc: Exception) -> str:
    return "it is not UTF-8" if isinstance(exc, UnicodeEncodeError) else str(exc)


def checked_of(function: str, model: wire.ValvesModel, reply: wire.Reply) -> wire.Checked:
    """The values to store, as the worker told them, and no misfits. Raises InvalidValves, NotFound without such a
    class, FunctionError."""
    if reply.kind == "none":
        raise NotFound(f"{function} has no {'Valves' if model == 'valves' else 'UserValves'}")
    try:
        checked = told(reply, wire.Checked)
    except ValueError as exc:
        raise FunctionError(function, f"{function}: what its worker told is not understood: {exc}") from exc
    if checked.misfits:
        raise InvalidValves(misfits_of(checked.misfits))
    check_sendable(checked.values)
    if model == "valves":
        _check_no_references(checked.values)
    return checked


def _check_no_references(values: Mapping[str, Any]) -> None:
    """A function must not get at variables and secrets of the server by what it makes of the values it is shown."""
    misfits = [
        Misfit(name, "in a settings file this would refer to a value elsewhere, and not be one")
        for name, value in values.items()
        if reference_of(value) is not None
    ]
    if misfits:
        raise InvalidValves(tuple(misfits[:MOST_MISFITS]))


def schema_of(manifest: Manifest, model: wire.ValvesModel) -> Mapping[str, Any] | None:
    """The schema as loading told it: options that a method gives are the method's name."""
    return manifest.valves_schema if model == "valves" else manifest.user_valves_schema


def option_methods(schema: Mapping[str, Any]) -> list[str]:
    """The names of the methods that give a field's options, each once."""
    names = (_method_of(field) for field in _fields(schema).values())
    return list(dict.fromkeys(name for name in names if name))[:MOST_METHODS]


def with_options(schema: Mapping[str, Any], options: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The schema with lists in place of the names of methods, as far as they gave some."""
    fields = dict(_fields(schema))
    for name, field in fields.items():
        found = options.get(_method_of(field) or "")
        if found is not None:
            fields[name] = {**field, "input": {**field["input"], "options": found}}
    return {**schema, "properties": fields}


def options_of(function: str, reply: wire.Reply) -> dict[str, list[Any]]:
    """What the methods gave, by their names. Raises FunctionError."""
    try:
        return told(reply, dict[str, list[Any]])
    except ValueError as exc:
        raise FunctionError(function, f"{function}: what its worker told is not understood: {exc}") from exc


def _fields(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema is whatever a worker says."""
    fields = schema.get("properties")
    return fields if isinstance(fields, Mapping) else {}


def _method_of(field: Any) -> str | None:
    shown = field.get("input") if isinstance(field, Mapping) else None
    options = shown.get("options") if isinstance(shown, Mapping) else None
    return options if isinstance(options, str) and options else None
