"""What a function sees of users and functions: what its caller may see, and of other people hardly anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fnsync.chat.access import may_use
from fnsync.model import FunctionId, FunctionRow, LiveFunction, User, reference_of
from fnsync.registry import World
from fnsync.source.secrets import holds_secret
from fnsync.store.state import ADMIN, State

Seen = Mapping[str, Any]


def user(state: State, caller: User, id: str) -> Seen | None:
    """A user; of others than the caller only an admin sees more than id, name and role. Blocking."""
    if id == caller.id:
        return _whole(caller)
    found = state.user(id)
    return None if found is None else _whole(found) if caller.is_admin else _outline(found)


def user_by_email(state: State, caller: User, email: str) -> Seen | None:
    """The user with an address: the caller, or for admins anyone; who has one is nobody else's business. Blocking."""
    email = email.strip().lower()
    if email == caller.email.lower():
        return _whole(caller)
    return next((_whole(one) for one in state.users() if one.email == email), None) if caller.is_admin else None


def first_user(state: State, caller: User) -> Seen | None:
    """The user that was there first: the built-in admin. Blocking."""
    return user(state, caller, ADMIN.id) or _outline(ADMIN)


def _whole(found: User) -> Seen:
    return {"id": found.id, "name": found.name, "email": found.email, "role": found.role}


def _outline(found: User) -> Seen:
    return {"id": found.id, "name": found.name, "email": "", "role": found.role}


def visible(world: World, caller: User, id: str) -> LiveFunction | None:
    """A function that the caller may use."""
    found = world.functions.get(FunctionId(id.lower()))
    return found if found is not None and may_use(found.settings, caller) else None


def functions(world: World, caller: User) -> list[LiveFunction]:
    """Those that the caller may use, by id."""
    return [one for _, one in sorted(world.functions.items()) if may_use(one.settings, caller)]


def function(found: LiveFunction, row: FunctionRow | None, caller: User) -> Seen:
    """A function as Open WebUI's records have it; its source is for who manages it."""
    manages = caller.is_admin or found.settings.owner == caller.id
    manifest = {key: value for key, value in found.frontmatter.entries.items() if isinstance(value, str)}
    description = str(found.frontmatter.entries.get("description") or "")
    return {
        "id": found.id,
        "user_id": row.user_id if row is not None and manages else "",
        "name": found.name,
        "type": found.kind.value,
        "content": row.content if row is not None and manages else "",
        "meta": {"description": description, "manifest": manifest},
        "is_active": found.active,
        "is_global": found.settings.is_global,
        "updated_at": found.updated_at,
        "created_at": row.created_at if row is not None else found.updated_at,
    }


def valves(found: LiveFunction) -> Seen:
    """The stored values that are no secrets: neither encrypted, nor from the environment, nor named like one."""
    schema = found.manifest.valves_schema
    return {
        name: value
        for name, value in found.settings.valves.items()
        if reference_of(value) is None and not holds_secret((name,), value, schema)
    }
