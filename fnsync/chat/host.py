"""Answers what a function asks of the server during a call: for the caller of that call, with what it may see.

A worker is not trusted: names come from a fixed table, and what is asked is decoded to a type.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from fnsync.chat import nested, sights
from fnsync.chat.turns import Turn
from fnsync.errors import FnsyncError, Invalid, NotFound
from fnsync.model import FunctionRow, LiveFunction
from fnsync.runtime.hosting import Flowing, Told
from fnsync.store.filing import MOST, Document, Filing

if TYPE_CHECKING:
    from fnsync.chat.completions import Completions
    from fnsync.chat.models import Models
    from fnsync.store.state import State

#: Kinds of documents that functions keep.
KINDS = frozenset({"chat", "file", "folder", "skill"})
#: Questions above this are decoded off the loop, in bytes.
LARGE_BYTES = 256 * 1024
#: How many documents one answer has at most.
MOST_LISTED = 1_000


@dataclass(frozen=True, slots=True)
class Desk:
    """What answers are made from; one per server."""

    completions: Completions
    models: Models
    state: State
    filing: Filing
    #: A function's row of the index; blocking.
    row: Callable[[str], FunctionRow | None]
    #: The `error` object of a stream that broke, for an admin or not.
    describe: Callable[[FnsyncError, bool], dict[str, Any]]

    def host(self, turn: Turn, function: LiveFunction) -> CallHost:
        """Who answers in one call of a function."""
        return CallHost(self, turn, function)


@dataclass(frozen=True, slots=True)
class CallHost:
    """Answers for one call."""

    desk: Desk
    turn: Turn
    function: LiveFunction

    @asynccontextmanager
    async def ask(self, name: str, body: bytes, data: bytes) -> AsyncIterator[Told | Flowing]:
        """The answer, for the time of the block. Raises FnsyncError."""
        if name == "complete":
            asked = await _decoded(name, body, nested.Ask)
            async with nested.completion(self.desk, self.turn, self.function.id, asked) as answer:
                yield answer
            return
        found = _QUESTIONS.get(name)
        if found is None:
            raise NotFound(f"there is nothing called {name[:100]!r} to ask for")
        kind, answered = found
        yield await answered(self, await _decoded(name, body, kind), data)


async def _decoded(name: str, body: bytes, kind: Any) -> Any:
    try:
        if len(body) > LARGE_BYTES:
            return await asyncio.to_thread(msgspec.json.decode, body, type=kind)
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Invalid(f"{name}: {exc}") from exc


def _json(value: Any) -> Told:
    return Told(msgspec.json.encode(value))


# ---- users, models, functions ----------------------------------------------------------------------------


class ById(msgspec.Struct, forbid_unknown_fields=True):
    """Asks for one of something."""

    id: str


class Nothing(msgspec.Struct):
    """Asks without saying more."""


class ByEmail(msgspec.Struct, forbid_unknown_fields=True):
    email: str


async def _user(host: CallHost, ask: ById, data: bytes) -> Told:
    return _json(await asyncio.to_thread(sights.user, host.desk.state, host.turn.caller, ask.id))


async def _user_by_email(host: CallHost, ask: ByEmail, data: bytes) -> Told:
    return _json(await asyncio.to_thread(sights.user_by_email, host.desk.state, host.turn.caller, ask.email))


async def _first_user(host: CallHost, ask: Nothing, data: bytes) -> Told:
    return _json(await asyncio.to_thread(sights.first_user, host.desk.state, host.turn.caller))


async def _models(host: CallHost, ask: Nothing, data: bytes) -> Told:
    return _json(await host.desk.models.entries(host.turn.world, host.turn.caller))


async def _functions(host: CallHost, ask: Nothing, data: bytes) -> Told:
    shown = sights.functions(host.turn.world, host.turn.caller)
    return _json([sights.function(one, None, host.turn.caller) for one in shown])


async def _function(host: CallHost, ask: ById, data: bytes) -> Told:
    found = sights.visible(host.turn.world, host.turn.caller, ask.id)
    if found is None:
        return Told()
    row = await asyncio.to_thread(host.desk.row, found.id)
    return _json(sights.function(found, row, host.turn.caller))


async def _function_valves(host: CallHost, ask: ById, data: bytes) -> Told:
    found = sights.visible(host.turn.world, host.turn.caller, ask.id)
    return Told() if found is None else _json(sights.valves(found))


# ---- files and documents ---------------------------------------------------------------------------------


class Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class Keep(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    id: str
    #: A JSON object; kept as it comes.
    value: msgspec.Raw
    #: As in Filing.keep.
    based_on: int | None = None


class Kept(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    id: str


class AllKept(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    skip: int = 0
    limit: int = MOST_LISTED


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise Invalid(f"functions keep no {kind[:100]!r}")
    return kind


async def _keep_content(host: CallHost, ask: Named, data: bytes) -> Told:
    return _json(await asyncio.to_thread(host.desk.filing.keep_content, host.turn.caller.id, ask.name, data))


async def _content(host: CallHost, ask: Named, data: bytes) -> Told:
    found = await asyncio.to_thread(host.desk.filing.content, host.turn.caller.id, ask.name)
    return Told() if found is None else Told(b"true", found)


async def _drop_content(host: CallHost, ask: Named, data: bytes) -> Told:
    return _json(await asyncio.to_thread(host.desk.filing.drop_content, host.turn.caller.id, ask.name))


async def _keep(host: CallHost, ask: Keep, data: bytes) -> Told:
    value = bytes(ask.value)
    if not value.startswith(b"{"):
        raise Invalid("keep: the value is no object")
    user = host.turn.caller.id
    return _document(
        user, await asyncio.to_thread(host.desk.filing.keep, user, _kind(ask.kind), ask.id, value, ask.based_on)
    )


async def _kept(host: CallHost, ask: Kept, data: bytes) -> Told:
    user = host.turn.caller.id
    return _document(user, await asyncio.to_thread(host.desk.filing.kept, user, _kind(ask.kind), ask.id))


async def _all_kept(host: CallHost, ask: AllKept, data: bytes) -> Told:
    # Nobody has as many: what is above no number of SQLite's.
    skip, limit = max(0, min(ask.skip, MOST)), max(0, min(ask.limit, MOST_LISTED))
    found = await asyncio.to_thread(host.desk.filing.all_kept, host.turn.caller.id, _kind(ask.kind), skip, limit)
    return _json([_plain(host.turn.caller.id, document) for document in found])


async def _drop(host: CallHost, ask: Kept, data: bytes) -> Told:
    return _json(await asyncio.to_thread(host.desk.filing.drop, host.turn.caller.id, _kind(ask.kind), ask.id))


def _document(user: str, document: Document | None) -> Told:
    return Told() if document is None else _json(_plain(user, document))


def _plain(user: str, document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "user_id": user,
        "version": document.version,
        "created_at": document.created_at,
        "updated_at": document.updated_at,
        "value": msgspec.Raw(document.value),
    }


#: Name -> the type of what is asked, and who answers.
_QUESTIONS: Mapping[str, tuple[Any, Callable[[CallHost, Any, bytes], Awaitable[Told]]]] = {
    "user": (ById, _user),
    "user_by_email": (ByEmail, _user_by_email),
    "first_user": (Nothing, _first_user),
    "models": (Nothing, _models),
    "functions": (Nothing, _functions),
    "function": (ById, _function),
    "function_valves": (ById, _function_valves),
    "keep_content": (Named, _keep_content),
    "content": (Named, _content),
    "drop_content": (Named, _drop_content),
    "keep": (Keep, _keep),
    "kept": (Kept, _kept),
    "all_kept": (AllKept, _all_kept),
    "drop": (Kept, _drop),
}
