"""Where commands find the versions of a function: at a running server, or in the repository where none runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from fnsync.cli.client import Client, place
from fnsync.cli.nearby import server_or_none
from fnsync.errors import UnknownFunction

if TYPE_CHECKING:
    from fnsync.config import Config
    from fnsync.model import Unit


class Past(Protocol):
    """Answers in the form of the API. Raises UnknownFunction or NotFound, and what else is in the way."""

    def versions(self, id: str, limit: int) -> dict[str, Any]:
        """The newest versions of a function."""

    def difference(self, id: str, before: str, after: str) -> dict[str, Any]:
        """How two states of a function differ, each a version, `disk`, or `before`."""


@contextmanager
def past(config: Config, url: str | None, token: str | None) -> Iterator[Past]:
    """What to ask: the server that these options lead to, else the files here. Raises NoServer for a server that has
    the data folder and does not answer."""
    with server_or_none(config, url, token) as client:
        yield Here(config) if client is None else There(client)


class There:
    """What a server tells."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def versions(self, id: str, limit: int) -> dict[str, Any]:
        """As Past says."""
        return dict(self.client.get(place("functions", "id", id, "versions"), limit=limit))

    def difference(self, id: str, before: str, after: str) -> dict[str, Any]:
        """As Past says."""
        return dict(self.client.get(place("functions", "id", id, "versions", "diff"), before=before, after=after))


class Here:
    """What the repository tells. Nobody knows what answers calls; users are those that commits name."""

    def __init__(self, config: Config) -> None:
        from fnsync.edits.archive import Archive  # start time, as all that reads sources
        from fnsync.git.worktree import WorkTree

        self._functions = config.functions
        self._archive = Archive(WorkTree.around(config.functions), config.functions)

    def versions(self, id: str, limit: int) -> dict[str, Any]:
        """As Past says."""
        from fnsync.api.versions import listed  # start time

        return listed(self._archive, self._unit(id), limit, lambda user: None)

    def difference(self, id: str, before: str, after: str) -> dict[str, Any]:
        """As Past says."""
        from fnsync.api.versions import comparison  # start time

        return comparison(self._archive, self._unit(id), before, after)

    def _unit(self, id: str) -> Unit:
        """The function's files; of two that claim the id the first counts, as at a cold start."""
        from fnsync.source.discovery import id_of, scan  # start time
        from fnsync.source.reading import Reader

        for path in scan(self._functions).sources:
            if id_of(path) == id:
                return Reader(self._functions).read(path).unit
        raise UnknownFunction(f"there is no function {id[:200]!r} in {self._functions}")
