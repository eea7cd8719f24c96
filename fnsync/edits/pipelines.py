"""What a Pipelines server's clients do to its files: each is one edit here."""

from __future__ import annotations

from fnsync.edits import messages
from fnsync.edits.drafts import Content, Drafting, checked_id
from fnsync.edits.manager import Manager, Terms
from fnsync.edits.writer import Edit, Written
from fnsync.errors import Conflict, ContentRefused, SourceError
from fnsync.model import FunctionId, Inspection, Kind, Problem
from fnsync.source import discovery
from fnsync.source.inspection import inspect


async def put(
    manager: Manager, name: str, source: str, terms: Terms, *, owner: str | None
) -> tuple[FunctionId, Written]:
    """Make a pipeline of a source, under the id nearest to `name`; it is active at once. One that is there already gets
    the new source, and keeps all else.

    Raises ContentRefused for a source that is none or does not load, Conflict where a function of another kind has the
    id, and what `Writer.apply` raises.
    """
    id = checked_id(discovery.like_id(name))
    _check(source, f"{id}.py")

    def make(drafting: Drafting) -> str:
        unit = manager.unit(id)
        author = terms.author_now(drafting, unit)
        if unit is None:
            mine = None if author.is_admin else owner
            drafting.create(id, Content("", source), active=True, owner=mine)
            return messages.CREATE.format(id=id)
        if unit.inspection.kind not in (Kind.PIPELINE, None):
            raise Conflict(f"{unit.path} is there already, and no pipeline", hint="give the file another name")
        settings = drafting.settings(unit)
        drafting.update(unit, Content(settings.name or "", source, settings.meta))
        drafting.set_flags(unit, active=True, is_global=settings.is_global)
        return messages.UPDATE.format(id=id)

    return id, await manager.writer.apply(Edit(terms.author, make, terms.message))


def _check(source: str, path: str) -> None:
    """Raise ContentRefused for a source that defines no pipeline."""
    try:
        found = inspect(source, path, helpers=frozenset(), shared=frozenset())
    except SourceError:
        return  # loading tells where it is wrong
    if found.kind is not Kind.PIPELINE:
        problem = _none(found, path)
        raise ContentRefused(str(problem), problem)


def _none(found: Inspection, path: str) -> Problem:
    return Problem(
        "no_class",
        f"the file defines no class Pipeline; found: {', '.join(found.classes[:10]) or 'no class'}",
        path,
        hint="other functions are made over the Functions API, at /api/functions",
    )
