"""What may be done to functions: each method is one edit, or one question about valves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from fnsync import labels
from fnsync.chat.context import user as user_argument
from fnsync.edits import messages, valves
from fnsync.edits.archive import Archive
from fnsync.edits.drafts import Content, Drafting
from fnsync.edits.writer import Edit, Writer, Written
from fnsync.errors import (
    Conflict,
    ContentRefused,
    Invalid,
    InvalidValves,
    LoadFailed,
    NotFound,
    UnknownFunction,
    ValvesUnfit,
)
from fnsync.model import FunctionId, FunctionRow, LiveFunction, Unit, User, reference_of
from fnsync.plan import Standing
from fnsync.reconcile import Reconciler
from fnsync.runtime.executor import Executor
from fnsync.runtime.spec import sealed_of
from fnsync.runtime.wire import Checked
from fnsync.store.index import Index
from fnsync.uservalves import UserValves
from fnsync.vault import Vault

Model = Literal["valves", "user_valves"]


@dataclass(frozen=True, slots=True)
class Terms:
    """How an edit is made: by whom, with which message, on what it was based."""

    author: User
    message: str | None = None
    #: The version or revision of the function that the caller saw.
    expected: str | None = None
    #: Asked each time that the edit is drafted, of the function as it is then (None: no function in particular). Gives
    #: the author as they are then. Blocking; may raise any FnsyncError.
    authorize: Callable[[Unit | None], User] | None = None

    def author_now(self, drafting: Drafting, unit: Unit | None = None) -> User:
        """The author, if they may make the edit. Raises what `authorize` does, UnknownFunction for one that is gone."""
        if self.authorize is None:
            return self.author
        if unit is None:
            return self.authorize(None)
        try:
            there = drafting.on_disk(unit)
        except UnknownFunction:
            author = self.authorize(None)
            if author.is_admin:
                return author  # a checkout may be under way; the writer starts again after it
            raise
        return self.authorize(there)


class Manager:
    """Edits functions and their valves. One for each server; on the loop."""

    def __init__(
        self,
        writer: Writer,
        reconciler: Reconciler,
        executor: Executor,
        index: Index,
        vault: Vault,
        user_valves: UserValves,
        archive: Archive,
        owners: Callable[[], frozenset[str]],
    ) -> None:
        """`owners` gives the ids of users who may have functions of their own; blocking."""
        self.writer = writer
        self._index = index
        self._reconciler = reconciler
        self._executor = executor
        self.vault = vault
        self._user_valves = user_valves
        self.archive = archive
        self.owners = owners

    # ---- functions ---------------------------------------------------------------------------------------

    def standing(self, id: FunctionId) -> Standing:
        """How a function stands. Raises UnknownFunction."""
        standing = self._reconciler.standings.get(id)
        if standing is None:
            raise UnknownFunction(f"there is no function {id[:200]!r}")
        return standing

    def unit(self, id: FunctionId) -> Unit | None:
        """The claim to an id that counts; None: there is no such function."""
        return self._reconciler.find(id)

    def units(self) -> list[Unit]:
        """Those of all functions, by id."""
        return [standing.unit for _, standing in sorted(self._reconciler.standings.items())]

    def rows(self) -> list[FunctionRow]:
        """The rows of all functions, by id; blocking."""
        return self._index.rows()

    async def informed(self) -> None:
        """Wait until the rows hold all that is known of the functions, and what git tells of them."""
        await self._reconciler.informed()

    def confirmed(self, row: FunctionRow) -> FunctionRow:
        """The row, with a version only if the function on disk is what the row says, and what it was at that version.

        Blocking. Rows follow the files at once, but git a moment later: while somebody checks out another branch, the
        two would not belong together.
        """
        unit = self.unit(row.id)
        if row.version is None or unit is None:
            return row
        # Looked at before and after git is asked: else a checkout in between would go unseen.
        archive = self.archive
        is_it = archive.now(unit).tag == row.tag and archive.is_same(unit, row.version)
        return row if is_it and archive.now(unit).tag == row.tag else replace(row, version=None)

    async def create(self, id: str, content: Content, terms: Terms, *, owner: str | None = None) -> Written:
        """A new function, not active yet. Raises Invalid, Conflict, and what `Writer.apply` raises."""

        def make(drafting: Drafting) -> str:
            terms.author_now(drafting)
            return messages.CREATE.format(id=drafting.create(id, content, owner=owner))

        return await self.writer.apply(Edit(terms.author, make, terms.message))

    async def update(self, id: FunctionId, content: Content, terms: Terms) -> Written:
        """New source, name and meta. Raises UnknownFunction, and what `Writer.apply` raises."""

        def change(drafting: Drafting, unit: Unit, author: User) -> str:
            drafting.update(unit, content)
            return messages.UPDATE.format(id=id)

        return await self._apply(id, terms, change)

    async def toggle(self, id: FunctionId, terms: Terms) -> Written:
        """On or off. Raises UnknownFunction, and what `Writer.apply` raises."""

        def change(drafting: Drafting, unit: Unit, author: User) -> str:
            return f"{'Activate' if drafting.toggle(unit) else 'Deactivate'} {id}"

        return await self._apply(id, terms, change)

    async def toggle_global(self, id: FunctionId, terms: Terms) -> Written:
        """Global or not. Raises UnknownFunction, and what `Writer.apply` raises."""

        def change(drafting: Drafting, unit: Unit, author: User) -> str:
            return f"Make {id} {'global' if drafting.toggle_global(unit) else 'local'}"

        return await self._apply(id, terms, change)

    async def roll_back(self, id: FunctionId, version: str, terms: Terms) -> Written:
        """Make a function once more what it was at a version: source, helpers, name and meta; all else stays.

        Raises UnknownFunction, NotFound for the version, Conflict where its files have no place now, and what
        `Writer.apply` raises.
        """

        def change(drafting: Drafting, unit: Unit, author: User) -> str:
            there, files = self.archive.files(unit, version)
            said = labels.read(files.settings or b"")
            drafting.restore(unit, files.at(unit.path), said.name, said.meta)
            return f"Roll {id} back to {there.commit[:12]}"

        return await self._apply(id, terms, change)

    async def delete(self, id: FunctionId, terms: Terms) -> Written:
        """No such function any more. Raises UnknownFunction, and what `Writer.apply` raises."""

        def change(drafting: Drafting, unit: Unit, author: User) -> str:
            drafting.delete(unit)
            return f"Delete {id}"

        return await self._apply(id, terms, change)

    async def _apply(self, id: FunctionId, terms: Terms, change: Callable[[Drafting, Unit, User], str]) -> Written:
        """Edit a function; `change` is given the function and the author as they are when it is drafted."""

        def make(drafting: Drafting) -> str:
            unit = self.standing(id).unit
            return change(drafting, unit, terms.author_now(drafting, unit))

        self.writer.check_local(self.standing(id).unit)
        expected = {} if terms.expected is None else {id: terms.expected}
        return await self.writer.apply(Edit(terms.author, make, terms.message, expected))

    # ---- valves ------------------------------------------------------------------------------------------

    def valves(self, id: FunctionId) -> dict[str, Any]:
        """The stored values, secrets in clear. Raises UnknownFunction, Undecipherable."""
        return valves.shown(self.standing(id).unit.settings.valves, self.vault)

    async def schema(self, id: FunctionId, model: Model, user: User) -> Mapping[str, Any] | None:
        """The JSON schema of the function's class, with its options; None: it has none. Raises UnknownFunction,
        ContentRefused, and what starting a worker raises."""
        return await self._executor.valves_schema(self._newest(id), model, user_argument(user))

    async def set_valves(
        self, id: FunctionId, posted: Mapping[str, Any], terms: Terms
    ) -> tuple[Written, dict[str, Any]]:
        """Replace the stored values; returns them as they are then, too. Raises UnknownFunction, InvalidValves, Invalid
        for too much, NotFound without such a class, and what `Writer.apply` raises."""
        self.writer.check_local(self.standing(id).unit)
        await asyncio.to_thread(valves.check_size, posted)
        function = self._newest(id)
        manifest = await self._executor.manifest(function)
        if manifest.valves_schema is None:
            raise NotFound(f"{id} has no Valves")
        unit = self.standing(id).unit
        wanted = valves.asked(posted, unit.settings.valves, may_refer=terms.author.is_admin)
        checked = await self.checked_valves(function, wanted)
        is_secret = valves.secret_test(manifest.valves_schema, unit.inspection, checked)

        def change(drafting: Drafting, unit: Unit, author: User) -> str:
            stored = drafting.settings(unit).valves
            again = valves.asked(posted, stored, may_refer=author.is_admin)
            drafting.set_valves(unit, valves.to_store(checked.values, again, stored, is_secret, self.vault))
            return f"Set the valves of {id}"

        written = await self._apply(id, terms, change)
        return written, self.valves(id)

    async def all_valves(self, id: FunctionId) -> dict[str, Any]:
        """What all fields of the function's class are, secrets in clear, but what is taken from the server's
        environment. Raises UnknownFunction, NotFound without such a class, Undecipherable, ContentRefused, and what
        starting a worker raises."""
        function = self._newest(id)
        schema = (await self._executor.manifest(function)).valves_schema
        if schema is None:
            raise NotFound(f"{id} has no Valves")
        stored = self.standing(id).unit.settings.valves
        shown = valves.shown(stored, self.vault)
        try:
            given = self.resolved(function, stored)
            sealed = sealed_of(stored)
            checked = await self._executor.checked_valves(function, "valves", given, sealed, whole=True)
            whole = checked.whole
        except InvalidValves:  # what is stored does not fit, or refers to nothing
            fields = schema.get("properties", {}).items()
            whole = {name: field["default"] for name, field in fields if "default" in field} | shown
        return whole | {name: value for name, value in shown.items() if reference_of(value) is not None}

    async def checked_valves(self, function: LiveFunction, wanted: Mapping[str, Any]) -> Checked:
        """What the function's class makes of values, references among them. Raises InvalidValves, NotFound."""
        sealed = sealed_of(function.settings.valves) | sealed_of(wanted)
        return await self._executor.checked_valves(function, "valves", self.resolved(function, wanted), sealed)

    def resolved(self, function: LiveFunction, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Values with what their references stand for. Raises InvalidValves, Invalid."""
        asked = replace(function, settings=replace(function.settings, valves=wanted))
        try:
            return self._executor.resolved_valves(asked)
        except ValvesUnfit as exc:
            raise InvalidValves(exc.misfits, hint=exc.hint) from exc
        except LoadFailed as exc:
            raise Invalid(exc.problem.message, hint=exc.hint) from exc

    def _newest(self, id: FunctionId) -> LiveFunction:
        """The function whose classes count: the newest revision if it can be loaded, else the one that serves."""
        standing = self.standing(id)
        unit, live = standing.unit, standing.live
        if unit.problem is None and unit.revision is not None:
            if live is not None and live.revision == unit.revision:
                return live
            return self.writer.candidate(unit)
        if live is not None:
            return live
        assert unit.problem is not None
        raise ContentRefused(str(unit.problem), unit.problem)

    # ---- valves of users ---------------------------------------------------------------------------------

    async def own_values(self, id: FunctionId, user: User) -> dict[str, Any]:
        """What a user has set. Raises UnknownFunction, Undecipherable."""
        standing = self.standing(id)
        owner = (standing.live or standing.unit).settings.owner
        return dict(await self._user_valves.get(id, owner, user))

    async def set_own_values(self, id: FunctionId, user: User, posted: Mapping[str, Any]) -> dict[str, Any]:
        """Replace what a user has set. Raises UnknownFunction, Conflict for a function that is not active,
        InvalidValves, Invalid for too much, NotFound without such a class."""
        standing = self.standing(id)
        if standing.live is None or not standing.live.active:
            raise Conflict("Function is not active", hint="who manages it can activate it")
        await asyncio.to_thread(valves.check_size, posted)
        checked = await self._executor.check_valves(standing.live, "user_valves", posted)
        await asyncio.to_thread(valves.check_size, checked)
        await self._user_valves.set(id, standing.live.settings.owner, user, checked)
        return checked
