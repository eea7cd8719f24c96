"""Which values are secrets: by the names they go by, by what a schema says of them, and by what is inside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

#: Words that make a name a secret's: the whole of one of its words, two of them run together, or what they end with.
#: Tokens in the plural are counted rather than kept secret (max_tokens), unless it is said what they are for.
_SECRET_WORDS = ("key", "keys", "creds", "authorization", "pw")
_KINDS = ("access", "api", "auth", "client", "encryption", "master", "private", "refresh", "secret", "signing", "ssh")
_SECRET_ENDINGS = (
    *("password", "passwords", "passwd", "passphrase", "passphrases", "passcode", "passcodes", "passwort", "pwd"),
    *("secret", "secrets", "credential", "credentials", "token"),
    *(f"{kind}{word}" for kind in _KINDS for word in ("key", "keys", "tokens")),
)
#: Words that do so as the last one alone (`basic_auth`, not `auth_type`), but not after one of a switch (`use_auth`).
_LAST_WORDS = frozenset({"auth", "bearer", "cookie", "cookies", "jwt"})
_SWITCHES = frozenset({"allow", "disable", "enable", "has", "is", "needs", "no", "require", "requires", "skip", "use"})
#: What makes another word of `pass`.
_NOT_PASS = frozenset({"passthrough", "passthru"})
#: Words that a name of a count ends with: `token_limit`, `password_length`. A text is no count.
_COUNTS = frozenset({"budget", "count", "counts", "length", "limit", "limits", "size", "usage"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
#: How deep a schema is searched for secret fields.
MOST_DEPTH = 16
#: Types of JSON schema that hold no secret, whatever a field is called.
_HARMLESS = frozenset({"boolean", "integer", "number", "null"})
#: Types of JSON values that may hold one.
MAY_HOLD = (str, Mapping, list)
#: Keywords whose values are no schemas: a value that looks like one says nothing of the field.
_DATA = frozenset({"const", "default", "enum", "example", "examples", "input"})


def is_secret_name(name: str, *, text: bool = False) -> bool:
    """Whether a name says key, token, password, secret or the like: in snake_case, in camelCase, or run together.

    `text`: it is the name of a text, or of several, and so of no count: of `tokens` more is secret then.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or (words[-1] in _COUNTS and not text):
        return False
    pairs = [one + other for one, other in pairwise(words)]
    endings = (*_SECRET_ENDINGS, "tokens") if text else _SECRET_ENDINGS
    return (
        any(word in _SECRET_WORDS for word in words)
        or any(word.endswith(endings) for word in words + pairs)
        or (words[-1] in _LAST_WORDS and _SWITCHES.isdisjoint(words[:-1]))
        or ("pass" in words and _NOT_PASS.isdisjoint(pairs))
    )


def holds_secret(names: Iterable[str], value: Any, schema: Mapping[str, Any] | None) -> bool:
    """Whether there is a secret in the value of a field that goes by these names, by the schema of its class."""
    fields, definitions = (_mapping(_mapping(schema).get(key)) for key in ("properties", "$defs"))
    all_names = tuple(names)
    field = next((fields[one] for one in all_names if one in fields), None)
    return (
        any(_is_secret(one, field, definitions, set(), MOST_DEPTH) for one in all_names)
        or (_is_text(value) and not _is_harmless(field) and any(is_secret_name(one, text=True) for one in all_names))
        or _names_secret(value)
    )


def _names_secret(value: Any) -> bool:
    """Whether something inside a value is named like a secret and may be one."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, Mapping):
            if any(
                isinstance(item, MAY_HOLD) and is_secret_name(str(name), text=_is_text(item))
                for name, item in one.items()
            ):
                return True
            pending += one.values()
        elif isinstance(one, list):
            pending += one
    return False


def _is_text(value: Any) -> bool:
    """Whether it is a text, or a list with one."""
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(item, str) for item in value))


def _is_secret(name: str, schema: Any, definitions: Mapping[str, Any], seen: set[str], depth: int) -> bool:
    """Whether a field, or one inside it, is a password, or named like a secret and able to hold one.

    `seen`: the definitions that were looked into, so that each is looked into once.
    """
    if not isinstance(schema, Mapping):
        return is_secret_name(name)  # nothing is known of it but its name
    if depth == 0:
        return True
    reference = schema.get("$ref")
    if isinstance(reference, str):
        if reference in seen:
            return is_secret_name(name)
        seen.add(reference)
        schema = {**_mapping(definitions.get(reference.rpartition("/")[2])), **schema}
    if schema.get("format") == "password" or schema.get("writeOnly") is True:
        return True
    if _mapping(schema.get("input")).get("type") == "password":
        return True
    if is_secret_name(name) and not _is_harmless(schema):
        return True
    return any(_is_secret(inner, item, definitions, seen, depth - 1) for inner, item in _inside(schema))


def _is_harmless(schema: Any) -> bool:
    """Whether a field can hold no secret, by its type."""
    kinds = _types(_mapping(schema))
    return bool(kinds) and kinds <= _HARMLESS


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    found = schema.get("type")
    kinds = {found} if isinstance(found, str) else set(found) if isinstance(found, list) else set()
    for option in schema.get("anyOf") or ():
        kinds |= _types(option) if isinstance(option, Mapping) else set()
    return frozenset(kinds)


def _inside(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Schemas inside one, under whatever keyword, with the names of those that are fields'."""
    for keyword, found in schema.items():
        if keyword == "properties" and isinstance(found, Mapping):
            yield from ((str(name), item) for name, item in found.items())
        elif keyword not in _DATA:
            items = found if isinstance(found, list) else (found,)
            yield from (("", item) for item in items if isinstance(item, Mapping))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
