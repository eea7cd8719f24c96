"""Valves and UserValves classes: their schemas, and values that fit them or do not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from fnsync.runtime import wire
from fnsync.worker.faults import Fault, message_of, shortened

#: Misfits that are told at once; a list of a thousand wrong items is one mistake.
MOST_MISFITS = 50
#: Texts of other fields are looked for in messages from this length on: a shorter one may be a word of the message.
TELLING_CHARACTERS = 4


class Unfit(Fault):
    """Values that do not fit a class, field by field."""

    def __init__(self, misfits: list[wire.Misfit]) -> None:
        super().__init__("valves", "; ".join(f"{misfit.field}: {misfit.message}" for misfit in misfits))
        self.misfits = misfits


def is_model(cls: Any) -> bool:
    """Whether it is a pydantic class, which has a schema and checks values."""
    return isinstance(cls, type) and callable(getattr(cls, "model_json_schema", None))


def schema_of(cls: Any) -> dict[str, Any] | None:
    """The JSON schema of a Valves class, or None where there is none."""
    if not is_model(cls):
        return None
    schema: dict[str, Any] = cls.model_json_schema()
    return schema


def without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """Stored values without those that are null, which means: not set."""
    return {name: value for name, value in values.items() if value is not None}


def build(cls: type, values: Mapping[str, Any]) -> Any:
    """Make an object of the class. Raises Unfit."""
    try:
        return cls(**values)
    except Exception as exc:  # validators are function code
        raise Unfit(misfits_of(exc, cls, values)) from None  # its text, which tells the values, goes no further


def misfits_of(exc: Exception, cls: type, values: Mapping[str, Any]) -> list[wire.Misfit]:
    """What a class said against values, without the values."""
    errors = getattr(exc, "errors", None)
    if not callable(errors):
        message = f"{type(exc).__name__}: {message_of(exc)}"
        return [_misfit(cls.__name__, _concealed(message, None, values))]
    return [
        _misfit(
            ".".join(map(str, error["loc"])) or cls.__name__,
            error["msg"] if _is_plain(error["type"]) else _concealed(error["msg"], error.get("input"), values),
            missing=error["type"] == "missing",
        )
        for error in errors()[:MOST_MISFITS]
    ]


def _misfit(field: str, message: str, *, missing: bool = False) -> wire.Misfit:
    return wire.Misfit(shortened(field), shortened(message), missing)


def _is_plain(kind: str) -> bool:
    """Whether a message is pydantic's own, which tells what was expected and not what came."""
    from pydantic_core import core_schema  # an environment may lack it; whoever reports errors like this has it loaded

    own = ("value_error", "assertion_error", "union_tag_invalid")
    return kind in get_args(core_schema.ErrorType) and kind not in own


def _concealed(message: str, value: Any, values: Mapping[str, Any]) -> str:
    """The message of a function's own validator without the field's value, nor longer texts of other fields: they
    may be secrets, and messages end in statuses and logs."""
    found = {text for text in _texts(values) if len(text) >= TELLING_CHARACTERS} | set(_texts(value))
    for text in sorted((text for text in found if text in message), key=len, reverse=True):
        if len(text) < TELLING_CHARACTERS:
            message = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "…", message)
        else:
            message = message.replace(text, "…")
    return message


def _texts(value: Any) -> Iterator[str]:
    """The texts and numbers in a value."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str | int | float) and not isinstance(value, bool) and str(value):
        yield str(value)
