"""What is followed, as one: the remote of the repository, and the sources."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fnsync.model import LOCAL, REPOSITORY
from fnsync.notices import Failing
from fnsync.plan import Standing
from fnsync.pulls import Pulls
from fnsync.sourcestate import SourceState
from fnsync.status import counted_by_source, failing_of
from fnsync.syncing.sources import Sources
from fnsync.syncing.telling import source_status
from fnsync.webhooks import Followed


class Remotes:
    """All that one server syncs with. On the loop, but for how it stands, which any thread may ask."""

    def __init__(self, sources: Sources, standings: Callable[[], Collection[Standing]]) -> None:
        """`standings`: how the functions stand now."""
        #: None: there is no usable repository, or this is no server.
        self.pulls: Pulls | None = None
        self._sources = sources
        self._standings = standings

    @property
    def are_followed(self) -> bool:
        """Whether anything is synced by itself."""
        return bool(self._sources.followers) or self._exchanges

    @property
    def _exchanges(self) -> bool:
        pulls = self.pulls
        return pulls is not None and (pulls.interval_s is not None or pulls.pushes.enabled)

    def ask_all(self) -> None:
        """Have the sync of all that is followed by itself begin."""
        self._sources.ask_all()
        if self.pulls is not None and self._exchanges:
            self.pulls.ask()

    def ask(self, name: str) -> None:
        """As Triggers says."""
        if name != REPOSITORY:
            self._sources.ask(name)
        elif self.pulls is not None:
            self.pulls.ask()

    def followed(self) -> list[Followed]:
        """As Triggers says."""
        repository = [] if self.pulls is None else [self.pulls.followed()]
        sources = (one.config for one in self._sources.followers.values() if not one.config.suspend)
        return repository + [Followed(one.name, one.url, one.ref) for one in sources]

    # ---- how they stand --------------------------------------------------------------------------------------

    def failing(self, name: str) -> list[Failing]:
        """The functions that came from there and do not load now."""
        return failing_of(self._standings(), LOCAL if name == REPOSITORY else name)

    def states(self) -> list[SourceState]:
        """For metrics."""
        counts = counted_by_source(self._standings())
        repository = [] if self.pulls is None else [self.pulls.state(counts.get(LOCAL, {}))]
        sources = self._sources.followers.items()
        return repository + [follower.state(counts.get(name, {})) for name, follower in sources]

    def sources_status(self) -> list[dict[str, Any]]:
        """How the sources stand, as the API tells it."""
        counts = counted_by_source(self._standings())
        return [source_status(one, counts.get(name, {})) for name, one in self._sources.followers.items()]

    def source_status(self, name: str) -> dict[str, Any]:
        """How one stands. Raises NotFound."""
        counts = counted_by_source(self._standings())
        return source_status(self._sources.find(name), counts.get(name, {}))
