"""The routes: one table that the server dispatches by and that the API's description is made from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fnsync.api.exchange import Exchange, Who

if TYPE_CHECKING:
    from pydantic import BaseModel

    from fnsync.errors import FnsyncError

Method = Literal["GET", "POST", "PUT", "DELETE"]
Endpoint = Callable[[Exchange], Awaitable[None]]
Errors = tuple[type["FnsyncError"], ...]
#: What the Functions API is at: the specification's prefix, and Open WebUI's.
PREFIXES = ("/api", "/api/v1")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a route that is no error."""

    #: The type of its JSON: a pydantic model or what a TypeAdapter takes; None: no JSON.
    type: Any = None
    description: str = "Done"
    media_types: tuple[str, ...] = ("application/json",)


@dataclass(frozen=True, slots=True)
class Route:
    """One method at one address."""

    method: Method
    #: The address, with `{name}` for parts that vary; the first is the one that is described.
    paths: tuple[str, ...]
    endpoint: Endpoint
    who: Who
    summary: str
    #: The heading it stands under in the API's description.
    group: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    #: By status.
    answers: Mapping[int, Answer] = field(default_factory=dict)
    #: What it raises besides what every route may (see `api.description`).
    errors: Errors = ()
    #: Of the body.
    media_type: str = "application/json"


def api_route(
    method: Method,
    paths: str | tuple[str, ...],
    endpoint: Endpoint,
    who: Who,
    summary: str,
    group: str,
    answers: Mapping[int, Answer],
    *,
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    errors: Iterable[type[FnsyncError]] = (),
) -> Route:
    """A route at `paths` below each prefix of the Functions API."""
    below = (paths,) if isinstance(paths, str) else paths
    everywhere = tuple(place for path in below for place in prefixed(path))
    return Route(method, everywhere, endpoint, who, summary, group, body, query, answers, tuple(dict.fromkeys(errors)))


def ok(type: Any, description: str = "Done") -> dict[int, Answer]:
    """Answers of a route that has one: 200 with JSON of a type."""
    return {200: Answer(type, description)}


def prefixed(path: str) -> tuple[str, ...]:
    """A path of the Functions API under each of its prefixes."""
    return tuple(prefix + path for prefix in PREFIXES)


def by_path(routes: Iterable[Route]) -> dict[str, dict[str, Route]]:
    """Path -> method -> route."""
    found: dict[str, dict[str, Route]] = {}
    for path, route in _each_path(routes):
        methods = found.setdefault(path, {})
        assert route.method not in methods, f"two routes for {route.method} {path}"
        methods[route.method] = route
    return found


def _each_path(routes: Iterable[Route]) -> Iterator[tuple[str, Route]]:
    return ((path, route) for route in routes for path in route.paths)
