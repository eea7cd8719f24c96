"""Which commit a ref means in a source, for previews; of the local repository as `previews.refs` finds it.

The remote is asked for a name not more often than every FRESH_S, and FETCHES times a minute for each source. What
comes is verified as what is followed is.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from fnsync.errors import FetchFailed, FnsyncError, NotFound, Unavailable, UnknownRef
from fnsync.git import refs
from fnsync.git.refnames import may_be_commit
from fnsync.model import LOCAL
from fnsync.previews.refs import FETCHES, FRESH_S, KEPT, Refs, Where
from fnsync.syncing.follower import Follower


@dataclass(frozen=True, slots=True)
class _Known:
    found: Where | FnsyncError
    at: float
    follower: Follower
    mark: tuple[int, int]

    def holds(self, follower: Follower, ref: str) -> bool:
        if self.follower is not follower or self.mark != follower.mark:
            return False
        is_pinned = isinstance(self.found, Where) and may_be_commit(ref) and self.found.commit.startswith(ref.lower())
        return is_pinned or time.monotonic() - self.at <= FRESH_S


class SourceRefs:
    """Finds commits in the local repository and in sources. On the loop."""

    def __init__(self, local: Refs, find: Callable[[str], Follower]) -> None:
        """`find` gives the follower of a source; it raises NotFound."""
        self._local = local
        self._find = find
        #: Source and ref -> what it meant, or why it means nothing, and when that was asked; of which follower, since
        #: what it means depends on the configuration, and of which state of its mirror, which may drop commits.
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        #: What is being asked: all who want to know the same wait for one answer.
        self._under_way: dict[tuple[Follower, str], asyncio.Task[Where | FnsyncError]] = {}
        self._asked: dict[str, deque[float]] = {}

    async def resolve(self, source: str, ref: str) -> Where:
        """See `previews.refs.Refs`."""
        if source == LOCAL:
            return await self._local.resolve(source, ref)
        refs.check(ref)
        try:
            follower = self._find(source)
        except NotFound as exc:
            raise UnknownRef(exc.message, hint=exc.hint) from exc
        known = self._known.get((source, ref))
        if known is not None and known.holds(follower, ref):
            found = known.found
        else:
            found = await self._asked_once(follower, source, ref)
        if isinstance(found, FnsyncError):
            raise found
        return found

    async def _asked_once(self, follower: Follower, source: str, ref: str) -> Where | FnsyncError:
        key = (follower, ref)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._ask(follower, source, ref))
            task.add_done_callback(lambda done: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what is under way."""
        await self._local.close()

    async def _ask(self, follower: Follower, source: str, ref: str) -> Where | FnsyncError:
        found = await self._meaning(follower, source, ref)
        self._known[source, ref] = _Known(found, time.monotonic(), follower, follower.mark)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return found

    async def _meaning(self, follower: Follower, source: str, ref: str) -> Where | FnsyncError:
        asked = self._asked.setdefault(source, deque(maxlen=FETCHES))
        if len(asked) == FETCHES and time.monotonic() - asked[0] < 60:
            raise Unavailable(f"the source {source} was asked for many refs just now", retry_after_s=60)
        asked.append(time.monotonic())
        try:
            return await follower.where(ref)
        except NotFound as exc:
            return UnknownRef(exc.message, hint=exc.hint)
        except FetchFailed as exc:
            return UnknownRef(exc.message, hint=exc.hint) if exc.reason == "unknown_ref" else exc
        except FnsyncError as exc:
            return exc
