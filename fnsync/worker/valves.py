"""Valves and UserValves classes: their schemas, and values that fit them or do not."""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, get_args

from fnsync.runtime import wire
from fnsync.source.secrets import holds_secret
from fnsync.worker.faults import Fault, message_of, shortened

#: Misfits that are told at once; a list of a thousand wrong items is one mistake.
MOST_MISFITS = 50
#: What pydantic calls a required value that is not there, in its second version and its first.
MISSING = ("missing", "value_error.missing")
#: Texts of other fields are looked for in messages from this length on: a shorter one may be a word of the message.
TELLING_CHARACTERS = 4
#: As many characters of a secret, one after the other, tell of it wherever they stand.
FRAGMENT = 6


class Unfit(Fault):
    """Values that do not fit a class, field by field."""

    def __init__(self, misfits: list[wire.Misfit]) -> None:
        message = "; ".join(f"{misfit.field}: {misfit.message}" for misfit in misfits)
        super().__init__("valves", message, misfits=misfits)


def is_model(cls: Any) -> bool:
    """Whether it is a pydantic class, which has a schema and checks values."""
    return isinstance(cls, type) and callable(getattr(cls, "model_json_schema", None))


def schema_of(cls: Any) -> dict[str, Any] | None:
    """The JSON schema of a Valves class, or None where there is none."""
    if not is_model(cls):
        return None
    try:
        schema: dict[str, Any] = cls.model_json_schema()
    except Exception:  # a field of a type that JSON has no schema for must not keep the function from running
        schema = cls.model_json_schema(schema_generator=_lenient())
    return schema


def _lenient() -> type:
    from pydantic.json_schema import GenerateJsonSchema  # an environment may lack it; the class is one of pydantic's

    class Lenient(GenerateJsonSchema):
        """Says nothing about what JSON cannot hold."""

        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
            return {}

    return Lenient


def without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """Stored values without those that are null, which means: not set."""
    return {name: value for name, value in values.items() if value is not None}


def build(cls: type, values: Mapping[str, Any], sealed: Collection[str] = ()) -> Any:
    """Make an object of the class. Raises Unfit, which tells nothing of values that are secrets or `sealed`."""
    try:
        return cls(**values)
    except Exception as exc:  # validators are function code
        raise Unfit(misfits_of(exc, cls, values, sealed)) from None  # its text, which tells the values, goes no further


def checked(
    cls: type, values: Mapping[str, Any], given: Mapping[str, Any], sealed: Collection[str] = ()
) -> dict[str, Any]:
    """What to store of `values`: the fields that they set, as JSON values, in the order of the class. `given`: what the
    function itself sets, below them. Raises Unfit."""
    sent = without_null(values)
    valves = build(cls, {**given, **sent}, sealed)
    unread: Unfit | None = None
    for by_alias in (False, True):  # a field's own name may be one to give its value by, or not
        try:
            dumped = valves.model_dump(include=valves.model_fields_set, exclude_unset=True, by_alias=by_alias)
        except Exception as exc:  # serializers are function code
            raise Unfit(misfits_of(exc, cls, {**given, **sent}, sealed)) from None
        stored = {name: _json(name, value) for name, value in dumped.items() if name in sent or name not in given}
        try:
            if _shape(build(cls, {**given, **stored}, sealed)) == _shape(valves):
                return stored
        except Unfit as unfit:
            unread = unread or unfit
    told = unread.misfits if unread else [wire.Misfit(cls.__name__, "another value came out of it", False)]
    raise Unfit([_misfit(item.field, f"would not fit any more once it is stored: {item.message}") for item in told])


def whole(cls: type, values: Mapping[str, Any], sealed: Collection[str] = ()) -> dict[str, Any]:
    """All fields of an object that is made of `values`, as JSON values. Raises Unfit."""
    made = build(cls, values, sealed)
    try:
        dumped = made.model_dump()
    except Exception as exc:  # serializers are function code
        raise Unfit(misfits_of(exc, cls, values, sealed)) from None
    return {name: _json(name, value) for name, value in dumped.items()}


def names_of(cls: Any) -> dict[str, list[str]]:
    """Of fields that have aliases, or fields inside them that do: each name a value may be given by, and all names."""
    found = {}
    for field, info in _fields(cls):
        names = [field, *_aliases(info), *_inner_names(info.annotation, {cls})]
        if len(names) > 1:
            found.update(dict.fromkeys([field, *_keys(info)], names))
    return found


def secrets_of(cls: Any) -> list[str]:
    """The names that values of fields are given by whose types are pydantic's for secrets, or have one inside."""
    return [
        name for field, info in _fields(cls) if _has_secret(info.annotation, {cls}) for name in (field, *_keys(info))
    ]


def _has_secret(annotation: Any, seen: set[Any]) -> bool:
    if callable(getattr(annotation, "get_secret_value", None)):
        return True
    inner = list(get_args(annotation))
    named = is_model(annotation) or hasattr(annotation, "__value__")  # a class or an alias, which may be recursive
    if named and annotation not in seen:
        seen.add(annotation)
        inner += [info.annotation for _, info in _fields(annotation)]
        inner.append(getattr(annotation, "__value__", None))
    return any(_has_secret(part, seen) for part in inner)


def _inner_names(annotation: Any, seen: set[Any]) -> Iterator[str]:
    for part in get_args(annotation):
        yield from _inner_names(part, seen)
    if is_model(annotation) and annotation not in seen:
        seen.add(annotation)
        for field, info in _fields(annotation):
            aliases = _aliases(info)
            if aliases:
                yield from (field, *aliases)
            yield from _inner_names(info.annotation, seen)


def _fields(cls: Any) -> list[tuple[str, Any]]:
    found = getattr(cls, "model_fields", None)
    return list(found.items()) if isinstance(found, Mapping) else []


def _aliases(info: Any) -> list[str]:
    """The names besides its own that a field's value is read or written by, all on the way to it."""
    return [name for name in dict.fromkeys(part for path in _paths(info) for part in path) if isinstance(name, str)]


def _keys(info: Any) -> list[str]:
    """The names besides its field's own that a value is given by, which are where the ways to it begin."""
    return [name for name in dict.fromkeys(path[0] for path in _paths(info)) if isinstance(name, str)]


def _paths(info: Any) -> list[list[Any]]:
    taken = getattr(info, "validation_alias", None)
    given = [info.alias, getattr(info, "serialization_alias", None), *getattr(taken, "choices", [taken])]
    return [getattr(one, "path", [one]) for one in given if one is not None]


def _shape(value: Any) -> Any:
    """Which fields are set, and which of them are none of the class's; also in models further in."""
    if is_model(type(value)):
        inner = {name: _shape(item) for name, item in vars(value).items() if name in value.model_fields_set}
        return set(value.model_fields_set), set(value.model_extra or ()), inner
    if isinstance(value, Mapping):
        return {key: _shape(item) for key, item in value.items()}
    return [_shape(item) for item in value] if isinstance(value, list | tuple) else None


def _json(name: str, value: Any) -> Any:
    """The value as JSON has it. Secrets are told: it is stored encrypted, and a row of asterisks is no value. Raises
    Unfit."""
    try:
        return _plain(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise Unfit([_misfit(name, f"cannot be stored: {exc}")]) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("it is no finite number")
        return value
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [_plain(item) for item in value]
    if callable(reveal := getattr(value, "get_secret_value", None)):
        return _plain(reveal())
    if callable(dump := getattr(value, "model_dump", None)):
        return _plain(dump(exclude_unset=True))
    return _encoded(value)


def _key(value: Any) -> str:
    plain = _plain(value)
    if isinstance(plain, bool | int | float):
        return json.dumps(plain)
    if isinstance(plain, str):
        return plain
    raise TypeError(f"a {type(value).__name__} cannot be a key")


def _encoded(value: Any) -> Any:
    """Dates, addresses, paths, decimals: what pydantic knows how to write and to read."""
    from pydantic_core import to_jsonable_python  # an environment may lack it; these values come from it

    try:
        return to_jsonable_python(value)
    except Exception:  # by what a serializer of its own raises
        raise TypeError(f"JSON has no form for a {type(value).__name__}") from None


def misfits_of(exc: Exception, cls: type, values: Mapping[str, Any], sealed: Collection[str] = ()) -> list[wire.Misfit]:
    """What a class said against values, without the values."""
    own = _OwnWords(cls, values, sealed)
    errors = getattr(exc, "errors", None)
    if not callable(errors):
        return [_misfit(cls.__name__, own.told(f"{type(exc).__name__}: {message_of(exc)}", type(exc).__name__))]
    return [
        _misfit(
            ".".join(map(str, error["loc"])) or cls.__name__,
            error["msg"] if _is_plain(error["type"]) else own.told_of(error),
            missing=error["type"] in MISSING,
        )
        for error in errors()[:MOST_MISFITS]
    ]


class _OwnWords:
    """What may be told of the words of function code about values: they may be secrets, in whatever form the words
    have them, and messages end in statuses and logs."""

    def __init__(self, cls: type, values: Mapping[str, Any], sealed: Collection[str]) -> None:
        self._values = values
        self._secret = _secret_names(cls, values, sealed)
        self._texts = list(_texts([value for name, value in values.items() if name in self._secret]))

    def told_of(self, error: Mapping[str, Any]) -> str:
        """The message of an error, if it is of a field that is no secret, or of all fields and none is one."""
        cause = error.get("ctx", {}).get("error")
        name = type(cause).__name__ if isinstance(cause, Exception) else None
        return self.told(error["msg"], name, *error["loc"][:1], value=error.get("input"))

    def told(self, message: str, cause: str | None, field: Any = None, *, value: Any = None) -> str:
        """The message, or that it is not told; without a field it is about all of them."""
        is_secret = bool(self._texts) if field is None else field in self._secret
        if is_secret or _tells(message, self._texts):
            return f"its own validator refuses the value{f': {cause}' if cause else ''}"
        return _concealed(message, value, self._values)


def _secret_names(cls: type, values: Mapping[str, Any], sealed: Collection[str]) -> set[str]:
    """The names of the values that are secrets, and of such fields without one."""
    try:
        schema = schema_of(cls)
    except Exception:  # then only names and types tell
        schema = None
    known, others = {*sealed, *secrets_of(cls)}, names_of(cls)
    found = set()
    for name in {*values, *(field for field, _ in _fields(cls)), *others}:
        names = (name, *others.get(name, ()))
        if not known.isdisjoint(names) or holds_secret(names, values.get(name), schema):
            found.add(name)
    return found


def _tells(message: str, secrets: Iterable[str]) -> bool:
    """Whether a part of a secret is in the message: it may stand there cut, stripped or escaped."""
    message = shortened(message)
    parts = {message[at : at + FRAGMENT] for at in range(len(message) - FRAGMENT + 1)}
    return any(
        secret[at : at + FRAGMENT] in parts for secret in secrets for at in range(len(secret) - FRAGMENT + 1)
    ) or any(secret in message for secret in secrets if TELLING_CHARACTERS <= len(secret) < FRAGMENT)


def _misfit(field: str, message: str, *, missing: bool = False) -> wire.Misfit:
    return wire.Misfit(shortened(field), shortened(message), missing)


def _is_plain(kind: str) -> bool:
    """Whether a message is pydantic's own, which tells what was expected and not what came."""
    try:
        from pydantic_core import core_schema  # start time; an environment with an old pydantic lacks it
    except ImportError:
        return False
    own = ("value_error", "assertion_error", "union_tag_invalid")
    return kind in get_args(core_schema.ErrorType) and kind not in own


def _concealed(message: str, value: Any, values: Mapping[str, Any]) -> str:
    """The message of a function's own validator without the field's value, nor longer texts of other fields."""
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
