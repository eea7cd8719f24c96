"""What callers say that their edits are based on, held against what is on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fnsync.edits.archive import Archive
from fnsync.errors import FnsyncError, StaleEdit, Uncommitted
from fnsync.model import FunctionId, Unit


class Basis:
    """Blocking."""

    def __init__(self, find: Callable[[FunctionId], Unit | None], archive: Archive) -> None:
        """`find` gives the claim to an id that counts."""
        self._find = find
        self._archive = archive

    def check(self, expected: Mapping[FunctionId, str]) -> frozenset[str]:
        """Raise StaleEdit if a function is not what the caller named: by its tag, its revision, or a version.

        Returns the sources of which the caller has seen what is on disk, be it committed or not: a tag or a revision
        says that. Raises Uncommitted where only what is in no commit stands between. What is on disk is read anew,
        since the last look at it may be older than the caller's.
        """
        return frozenset(path for id, named in expected.items() for path in self._seen(id, named))

    def _seen(self, id: FunctionId, named: str) -> tuple[str, ...]:
        unit = self._find(id)
        fresh = self._archive.now(unit) if unit is not None else None
        if fresh is not None and named in (fresh.tag, fresh.revision):
            return (fresh.path,)
        if fresh is not None and self._archive.is_same(fresh, named):
            return ()
        if fresh is not None and self._is_newest(fresh, named):
            raise Uncommitted(
                f"{fresh.path} holds changes that came after {named[:12]} and are in no commit",
                hint=f"commit or discard them (git status), or edit what is there: send If-Match: {fresh.revision}",
            )
        raise StaleEdit(
            f"{id} is not at {named[:80]!r} any more: somebody has changed it",
            hint="fetch it again, and repeat the edit on what it is now",
        )

    def _is_newest(self, unit: Unit, named: str) -> bool:
        """Whether git knows nothing newer of the function than the version that is named."""
        try:
            version = self._archive.version(unit, named)
            newest = self._archive.versions(unit, 0, 1)
        except FnsyncError:
            return False
        return [one.commit for one in newest] == [version.commit]
