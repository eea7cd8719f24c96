"""Whom a chat server says it calls for: the headers that Open WebUI sends about its user, checked.

They count beside a service token only, and never give more than its ceiling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from fnsync.errors import Invalid
from fnsync.model import Ceiling, Role, User, lesser
from fnsync.store.users import EMAIL_CHARACTERS, ID_CHARACTERS, NAME_CHARACTERS, one_line

PREFIX = b"x-openwebui-user-"
ID, NAME, EMAIL, ROLE = PREFIX + b"id", PREFIX + b"name", PREFIX + b"email", PREFIX + b"role"
#: One signed token in place of these four.
SIGNED = PREFIX + b"jwt"
HEADERS = frozenset({ID, NAME, EMAIL, ROLE, SIGNED})

ROLE_CHARACTERS = 32
#: A character takes at most 4 bytes, and each of them 3 when it is percent-encoded.
ENCODED_BYTES = 12
#: How many users are kept as they were read; a chat server sends the same headers again and again.
MANY_USERS = 4096

_ENCODED = re.compile("%[0-9A-Fa-f]{2}")


def user_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Those of a request's headers that speak of the user. Raises Invalid when one is there twice."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in HEADERS:
            if name in found:
                raise Invalid(f"the header {_title(name)} is there twice", param=_title(name))
            found[name] = value
    return found


@lru_cache(maxsize=MANY_USERS)
def user_of(
    ceiling: Ceiling, id: bytes | None, name: bytes | None = None, email: bytes | None = None, role: bytes | None = None
) -> User:
    """The user whom the values of the headers name, with the lesser of that role and the ceiling. Raises Invalid."""
    return user_named(
        _plain(ID, id, ID_CHARACTERS),
        _name(name),
        _plain(EMAIL, email, EMAIL_CHARACTERS),
        lesser(_plain(ROLE, role, ROLE_CHARACTERS), ceiling),
        id_is=_title(ID),
    )


def user_named(id: str, name: str, email: str, role: Role, *, id_is: str) -> User:
    """A user of a chat server; `id_is` says where the id stands. Raises Invalid when it is empty."""
    id, name = id.strip(), name.strip()
    if not id:
        raise Invalid(f"{id_is} is missing, so that nobody is named", param=id_is)
    email = one_line(email.strip().lower(), "email", EMAIL_CHARACTERS)  # some letters become two
    return User(id, name or email[:NAME_CHARACTERS] or id, email, role)


def _name(value: bytes | None) -> str:
    """The one value that Open WebUI percent-encodes."""
    if value is None:
        return ""
    title = _title(NAME)
    if len(value) > NAME_CHARACTERS * ENCODED_BYTES:
        raise Invalid(f"{title}: is longer than {NAME_CHARACTERS} characters", param=title)
    return one_line(_text(NAME, unquote_to_bytes(value)), title, NAME_CHARACTERS)


def _plain(header: bytes, value: bytes | None, limit: int) -> str:
    if value is None:
        return ""
    title = _title(header)
    text = one_line(_text(header, value), title, limit)
    if _ENCODED.search(text):
        # Decoded or not, it could be taken for another user's: the sender does not encode it, but its users may
        # have chosen an address that looks so.
        raise Invalid(f"{title}: must not be percent-encoded; only {_title(NAME)} is", param=title)
    return text


def _text(header: bytes, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise Invalid(f"{_title(header)}: is not UTF-8", param=_title(header)) from exc


def _title(header: bytes) -> str:
    """A header's name as the documentation writes it."""
    return "X-OpenWebUI-User-" + header.removeprefix(PREFIX).decode("latin-1").title()
