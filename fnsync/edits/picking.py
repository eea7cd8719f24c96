"""Fetches the source of one function from a git repository: `git+https://host/repo.git@ref#path`."""

from __future__ import annotations

import asyncio

from fnsync.edits.checkouts import Checkout, Checkouts
from fnsync.edits.fetching import Fetched
from fnsync.errors import Invalid, NotFound, SourceError
from fnsync.git.location import Location
from fnsync.places import stem
from fnsync.source import files
from fnsync.source.catalog import Catalog
from fnsync.source.decoding import decode
from fnsync.source.reading import SOURCE_BYTES

#: How many functions an error names.
NAMED = 20


async def pick(checkouts: Checkouts, location: Location) -> Fetched:
    """The source at a place; without a path, that of the only function there.

    Raises Invalid for several, which it names, and for what cannot be read, NotFound for none, and what
    `Checkouts.get` raises.
    """
    async with checkouts.get(location) as checkout:
        return await asyncio.to_thread(_picked, checkout, location)


def _picked(checkout: Checkout, location: Location) -> Fetched:
    path = checkout.only or _only(checkout, location)
    try:
        data = files.load(checkout.folder, path, SOURCE_BYTES).data
        return Fetched(stem(path), decode(data, path), location.shown)
    except SourceError as exc:
        raise Invalid(f"{location.shown}: {exc}", param="url", hint=exc.hint) from exc


def _only(checkout: Checkout, location: Location) -> str:
    catalog = Catalog(checkout.folder)
    catalog.refresh(None)
    found = sorted(path for path, unit in catalog.units.items() if unit.inspection.kind is not None)
    if not found:
        raise NotFound(
            f"there is no function in {location.shown} ({checkout.commit.commit[:12]})", hint="name its file: …#PATH"
        )
    if len(found) > 1:
        around = f"{location.path}/" if location.path else ""
        names = ", ".join(around + path for path in found[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise Invalid(
            f"{location.shown} has {len(found)} functions: {names}{more}", param="url", hint="name one of them: …#PATH"
        )
    return found[0]
