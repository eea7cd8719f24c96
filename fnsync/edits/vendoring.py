"""Copies functions out of another repository into the functions folder: all of them or none, in one commit.

fetch ─► read (incoming) ─► merge with what is here ─┬─► dry run: try what changes, and tell
                            (merging)                └─► the writer: draft, try, commit, swap
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from fnsync.configgit import SourceAuth
from fnsync.edits.checkouts import Checkout, Checkouts
from fnsync.edits.drafts import Drafting
from fnsync.edits.entries import Progress
from fnsync.edits.incoming import Incoming, read
from fnsync.edits.manager import Manager, Terms
from fnsync.edits.merging import Conflicting, Merge, Merged
from fnsync.edits.writer import Edit, Written
from fnsync.errors import Conflict, ContentRefused, Invalid
from fnsync.git.location import Location
from fnsync.git.origins import Source
from fnsync.git.remote import Commit
from fnsync.model import LOCAL, CommitId, Problem
from fnsync.syncplan import FunctionChange, SyncPlan

#: How many conflicts or problems one error tells of.
MANY = 10


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be copied, and how."""

    location: Location
    #: Goes before the name of each function.
    prefix: str = ""
    #: Whether functions that came from the same place and are there no more, go here too.
    prune: bool = False
    #: Whether what was changed here since it came becomes what is there.
    force: bool = False
    #: None: as a source of the same repository says, else as git itself is set up.
    auth: SourceAuth | None = None


@dataclass(frozen=True, slots=True)
class Vendored:
    """What it came to."""

    plan: SyncPlan
    source: Source
    #: The commit there.
    commit: Commit
    written: Written


class Vendor:
    """Copies functions. One for each server; on the loop."""

    def __init__(self, manager: Manager, checkouts: Checkouts) -> None:
        self._manager = manager
        self._checkouts = checkouts

    async def run(
        self,
        order: Order,
        terms: Terms,
        *,
        dry_run: bool = False,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> Vendored:
        """Copy; with `dry_run` only find out what that would do, conflicts and what does not load included.

        Raises what `Checkouts.get` raises, NotFound where there is no function, Conflict with all that is in the way,
        ContentRefused, and what `Writer.apply` raises; then nothing was written.
        """
        if not dry_run:
            self._manager.writer.check_allowed()
        loop = asyncio.get_running_loop()

        def fetching(phase: str, percent: int | None) -> None:
            loop.call_soon_threadsafe(tell, Progress("fetching", percent or 0, 100))

        async with self._checkouts.get(order.location, order.auth, fetching) as checkout:
            source = Source(checkout.url, checkout.commit.commit, order.location.path, order.prefix)
            incoming = await asyncio.to_thread(read, checkout.folder, checkout.only, source)
        count = len(incoming.functions)
        tell(Progress("checking", 0, count))
        if dry_run:
            plan, written = await self._foreseen(incoming, order, checkout, terms), Written(())
        else:
            plan, written = await self._written(incoming, order, checkout, terms)
        tell(Progress("checking", count, count))
        return Vendored(plan, source, checkout.commit, written)

    async def _foreseen(self, incoming: Incoming, order: Order, checkout: Checkout, terms: Terms) -> SyncPlan:
        """What would be done; what changes is tried, as far as nothing is in its way."""
        drafting = self._manager.writer.drafting()
        terms.author_now(drafting)
        merged = await asyncio.to_thread(self._merged, drafting, incoming, order)
        clear = sorted(path for path in merged.sources if _is_clear(path, merged))
        found = await self._manager.writer.inspect(merged.files, clear) if clear else []
        wrong = {one.unit.path: one.wrong for one in found if one.wrong is not None}
        changes = [_with(change, wrong.get(change.path)) for change in merged.changes]
        known = {change.path for change in changes}
        merged.notes += [f"{path} would not load any more: {wrong[path]}" for path in sorted(wrong.keys() - known)]
        merged.changes = changes
        return _plan(merged, incoming, order, checkout, loaded=True)

    async def _written(
        self, incoming: Incoming, order: Order, checkout: Checkout, terms: Terms
    ) -> tuple[SyncPlan, Written]:
        made = Merged()

        def make(drafting: Drafting) -> str:
            nonlocal made
            terms.author_now(drafting)
            made = self._merged(drafting, incoming, order)
            if made.conflicts:
                raise _in_the_way(made.conflicts)
            _check_readable(made.changes)
            drafting.place(made.files, made.ids, made.sources)
            return _message(made, incoming.source)

        edit = Edit(terms.author, make, terms.message, trailers=incoming.source.lines)
        written = await self._manager.writer.apply(edit)
        return _plan(made, incoming, order, checkout, loaded=True), written

    def _merged(self, drafting: Drafting, incoming: Incoming, order: Order) -> Merged:
        manager = self._manager
        origins = manager.archive.origins(incoming.source.url)
        merge = Merge(drafting, origins, manager.unit, manager.units(), prune=order.prune, force=order.force)
        return merge.run(incoming)


def _is_clear(path: str, merged: Merged) -> bool:
    return all(change.action != "conflict" for change in merged.changes if change.path == path)


def _with(change: FunctionChange, problem: Problem | None) -> FunctionChange:
    return change if problem is None or change.error is not None else replace(change, error=problem)


def _check_readable(changes: list[FunctionChange]) -> None:
    """Raise ContentRefused for what comes and cannot be read whole."""
    problems = [change.error for change in changes if change.error is not None]
    if problems:
        raise ContentRefused("; ".join(map(str, problems[:MANY])), problems[0])


def _in_the_way(conflicts: list[Conflicting]) -> Conflict:
    told = "; ".join(f"{one.name}: {one.message}" for one in conflicts[:MANY])
    more = f"; and {len(conflicts) - MANY} more" if len(conflicts) > MANY else ""
    return Conflict(
        f"nothing was copied, since {len(conflicts)} {'is' if len(conflicts) == 1 else 'are'} in the way: {told}{more}",
        hint="give what comes a prefix, or rename what is here; dry_run tells all of it",
    )


def _message(merged: Merged, source: Source) -> str:
    brought = merged.count("added") + merged.count("changed")
    names = [change.id for change in merged.changes if change.action in ("added", "changed", "removed")]
    what = names[0] if len(names) == 1 else f"{brought} functions"
    removed = merged.count("removed")
    if brought == 0 and removed:
        what = f"the removal of {names[0] if removed == 1 else f'{removed} functions'}"
    elif removed:
        what += f", and the removal of {removed},"
    return f"Copy {what} from {source.url} at {source.commit[:12]}"


def _plan(merged: Merged, incoming: Incoming, order: Order, checkout: Checkout, *, loaded: bool) -> SyncPlan:
    return SyncPlan(
        source=LOCAL,
        ref=order.location.ref,
        before=None,
        after=CommitId(checkout.commit.commit),
        functions=tuple(merged.changes),
        refused=incoming.refused,
        loaded=loaded,
        notes=tuple(merged.notes),
        prune=order.prune,
    )


def check_prefix(prefix: str) -> str:
    """Raise Invalid for what cannot be the beginning of a function's name."""
    if prefix and not (prefix.isidentifier() and prefix == prefix.lower() and not prefix.startswith("_")):
        raise Invalid(
            f"prefix: {prefix[:80]!r} is no beginning of an id: expected letters, digits and _, as in acme_",
            param="prefix",
        )
    return prefix
