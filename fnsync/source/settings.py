"""Settings files: the YAML beside a source that says how its function runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fnsync import units, yamltext
from fnsync.config import VARIABLE_PREFIX
from fnsync.errors import SourceError
from fnsync.model import REFERENCES, Access, LimitOverrides, Permissions, Problem, Settings
from fnsync.yamltext import Value

SettingsError = SourceError

_T = TypeVar("_T")

#: Every key there is, by the mapping it lies in. `valves` holds the function's own names.
KEYS: Mapping[str, tuple[str, ...]] = {
    "": (
        "name",
        "meta",
        "active",
        "global",
        "models",
        "valves",
        "access",
        "owner",
        "limits",
        "permissions",
        "required",
    ),
    "access": ("users", "roles"),
    "limits": ("timeout", "memory", "concurrency", "workers", "idle", "rate", "user_rate"),
    "permissions": ("network", "write", "env"),
}


def parse(text: str, path: str) -> Settings:
    """Return the settings. Raises SettingsError with path, line, and the key in its message."""
    try:
        value = yamltext.load(text.removeprefix("\ufeff"))
        return Settings() if value is None or value.data is None else _settings(value)
    except _Bad as exc:
        raise SettingsError(Problem("settings", exc.message, path, exc.line, exc.column, hint=exc.hint)) from exc
    except yamltext.YamlError as exc:
        raise SettingsError(Problem("settings", exc.message, path, exc.line, exc.column)) from exc


class _Bad(Exception):
    """A key or value that is not allowed."""

    def __init__(self, message: str, line: int, column: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.hint = hint


def _settings(value: Value) -> Settings:
    top = _Section(value, "")
    limits = top.section("limits")
    access = top.section("access")
    permissions = top.section("permissions")
    return Settings(
        active=top.get("active", _boolean, None),
        is_global=top.get("global", _boolean, False),
        models=top.get("models", _texts, ()),
        valves=top.get("valves", _valves, {}),
        access=None if access.absent else Access(access.get("users", _texts, ()), access.get("roles", _texts, ())),
        limits=LimitOverrides(
            timeout_s=limits.get("timeout", _duration, None),
            memory_bytes=limits.get("memory", _size, None),
            concurrency=limits.get("concurrency", _count, None),
            workers=limits.get("workers", _count, None),
            idle_s=limits.get("idle", _duration, None),
            rate=limits.get("rate", _rate, None),
            user_rate=limits.get("user_rate", _rate, None),
        ),
        permissions=Permissions(
            network=permissions.get("network", _boolean, True),
            write=permissions.get("write", _texts, ()),
            env=permissions.get("env", _variables, ()),
        ),
        required=top.get("required", _boolean, False),
        name=top.get("name", _text, None),
        meta=top.get("meta", _mapping, {}),
        owner=top.get("owner", _text, None),
    )


class _Section:
    """A mapping whose keys are all known; a key without a value counts as not there."""

    def __init__(self, value: Value | None, name: str) -> None:
        self._name = name
        self.absent = value is None or value.data is None
        if value is None or value.data is None:
            self._values: dict[str, Value] = {}
            return
        if not isinstance(value.data, dict):
            raise _wrong(name, "a mapping of " + ", ".join(KEYS[name]), value)
        self._values = value.data
        for key, item in self._values.items():
            if key not in KEYS[name]:
                message = f"{self._full(key)}: unknown key; {_nearest(key, name)}"
                hint = f"known keys: {', '.join(self._full(known) for known in KEYS[name])}"
                raise _Bad(message, item.key_line, item.key_column, hint)

    def section(self, key: str) -> _Section:
        return _Section(self._values.get(key), key)

    def get(self, key: str, read: Callable[[str, Value], _T], default: _T) -> _T:
        value = self._values.get(key)
        return default if value is None or value.data is None else read(self._full(key), value)

    def _full(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key


def _nearest(key: str, section: str) -> str:
    """Name the known key that is most like an unknown one, also one of another mapping if it is the very word."""
    for other, known in KEYS.items():
        if key in known and other != section:
            return f"did you mean {other}.{key}?" if other else f"did you mean {key} at the top?"
    near = difflib.get_close_matches(key.lower(), KEYS[section], n=1, cutoff=0.0) or KEYS[section][:1]
    return f"did you mean {section}.{near[0]}?" if section else f"did you mean {near[0]}?"


# ---- values ----------------------------------------------------------------------------------------------


def _wrong(key: str, expected: str, value: Value) -> _Bad:
    what = {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(value.data)) or value.text[:60] or '""'
    prefix = f"{key}: " if key else ""
    return _Bad(f"{prefix}expected {expected}; found {what}", value.line, value.column)


def _boolean(key: str, value: Value) -> bool:
    if not isinstance(value.data, bool):
        raise _wrong(key, "true or false", value)
    return value.data


def _count(key: str, value: Value) -> int:
    if not isinstance(value.data, int) or isinstance(value.data, bool) or not 1 <= value.data <= 1_000_000:
        raise _wrong(key, "a whole number from 1", value)
    return value.data


def _text(key: str, value: Value) -> str:
    if not isinstance(value.data, str) or not value.data:
        raise _wrong(key, "a text", value)
    return value.data


def _mapping(key: str, value: Value) -> dict[str, Any]:
    if not isinstance(value.data, dict):
        raise _wrong(key, "a mapping", value)
    plain: dict[str, Any] = value.plain()
    return plain


def _texts(key: str, value: Value) -> tuple[str, ...]:
    if not isinstance(value.data, list):
        raise _wrong(key, "a list of texts", value)
    for item in value.data:
        if not isinstance(item.data, str) or not item.data:
            raise _wrong(key, "a list of texts", item)
    return tuple(item.data for item in value.data)


def _variables(key: str, value: Value) -> tuple[str, ...]:
    names = _texts(key, value)
    for item in value.data:
        _check_not_ours(key, item)
    return names


def _check_not_ours(key: str, value: Value) -> None:
    """Refuse the server's own variables: its admin token and keys are among them."""
    if value.data.startswith(VARIABLE_PREFIX):
        message = f"{key}: {value.data[:60]} is the server's own, and not for functions"
        hint = f"give the value to the server under a name that does not begin with {VARIABLE_PREFIX}"
        raise _Bad(message, value.line, value.column, hint)


def _measure(key: str, value: Value, read: Callable[[object], _T]) -> _T:
    try:
        found = read(value.plain())
    except ValueError as exc:
        raise _Bad(f"{key}: {exc}", value.line, value.column) from exc
    if found == 0:
        raise _Bad(f"{key}: expected more than 0", value.line, value.column)
    return found


def _duration(key: str, value: Value) -> float:
    return _measure(key, value, units.parse_duration)


def _size(key: str, value: Value) -> int:
    return _measure(key, value, units.parse_size)


def _rate(key: str, value: Value) -> Any:
    return _measure(key, value, units.parse_rate)


def _valves(key: str, value: Value) -> dict[str, Any]:
    if not isinstance(value.data, dict):
        raise _wrong(key, "a mapping of valve names to values", value)
    for name, item in value.data.items():
        _check_reference(f"{key}.{name}", item)
    plain: dict[str, Any] = value.plain()
    return plain


def _check_reference(key: str, value: Value) -> None:
    """`{env: NAME}` and `{secret: TEXT}` need a text; other mappings are values like any other."""
    if isinstance(value.data, dict) and len(value.data) == 1:
        [(name, target)] = value.data.items()
        if name in REFERENCES and not (isinstance(target.data, str) and target.data):
            expected = "the name of an environment variable" if name == "env" else "an encrypted text"
            raise _wrong(f"{key}.{name}", expected, target)
        if name == "env":
            _check_not_ours(f"{key}.{name}", target)
