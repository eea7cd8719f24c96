"""The API's description, OpenAPI 3.1: made from the table of routes and the models that validate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from fnsync.api.errors import Unexpected
from fnsync.api.exchange import WITHOUT_TOKEN
from fnsync.api.routes import Answer, Route
from fnsync.errors import BodyTooLarge, Draining, FnsyncError, Invalid, RateLimited, Unauthorized

_REFERENCES = "#/components/schemas/{model}"
_PART = re.compile(r"\{(\w+)(?::\w+)?\}")
_NO_WORD = re.compile(r"\W+")


class Problem(BaseModel):
    """An error, everywhere but under /v1."""

    detail: str
    hint: str | None = Field(None, description="The way out")
    traceback: list[str] | None = Field(None, description="For admins: the lines in the function's own files")


class OpenAIError(BaseModel):
    message: str
    type: str
    param: str | None
    code: str
    hint: str | None = None
    traceback: list[str] | None = None


class OpenAIProblem(BaseModel):
    """An error under /v1, in OpenAI's form."""

    error: OpenAIError


def describe(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The document that `/openapi.json` answers."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for path, route in _described(routes):
        paths.setdefault(_PART.sub(r"{\1}", path), {})[route.method.lower()] = _operation(path, route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fnsync",
            "version": version,
            "summary": "Keeps chat functions in git and runs them",
            "description": "Everything under `/api` is also at `/api/v1`; of Pipelines, all but `/models` is also "
            "under `/v1`. Errors tell the way out in `hint`.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.found.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}, "signature": _SIGNATURE},
        },
    }


def _described(routes: Iterable[Route]) -> Iterator[tuple[str, Route]]:
    """The addresses that are worth a line: not those that only repeat another one."""
    for route in routes:
        known = set(route.paths)
        for path in route.paths:
            repeats = path.replace("/api/v1/", "/api/", 1) if path.startswith("/api/v1/") else path.rstrip("/")
            # Of an address that is under /v1 besides, the first is told.
            is_second = path != route.paths[0] and path.removeprefix("/v1") == route.paths[0].rstrip("/")
            if not is_second and (repeats == path or repeats not in known):
                yield path, route


def _operation(path: str, route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _NO_WORD.sub("_", f"{route.method}_{path}".lower()).strip("_"),
        "summary": route.summary,
        "tags": [route.group],
        "description": _WHO[route.who],
        "parameters": [*_parts(path), *_query(route, schemas)],
        "responses": {**_answers(route, schemas), **_errors(path, route, schemas)},
    }
    if route.body is not None:
        schema = schemas.of(route.body, "validation")
        operation["requestBody"] = {"required": True, "content": {route.media_type: {"schema": schema}}}
    if route.who not in WITHOUT_TOKEN:
        operation["security"] = [{"token": []}]
    elif route.who == "sender":
        operation["security"] = [{"signature": []}]
    return operation


_SIGNATURE = {
    "type": "apiKey",
    "in": "header",
    "name": "X-Hub-Signature-256",
    "description": "Or `X-Gitlab-Token`, `webhook-signature`, `X-Gitea-Signature`, `X-Forgejo-Signature` or "
    "`X-Fnsync-Signature`, by the webhook's kind",
}
_WHO = {
    "anyone": "For anyone.",
    "sender": "For who signs with the secret that both sides know; no token is needed.",
    "caller": "For anyone with a token.",
    "manager": "For admins and, with `auth.user_functions`, for users with functions of their own.",
    "admin": "For admins.",
}


def _parts(path: str) -> Iterator[dict[str, Any]]:
    for name in _PART.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query(route: Route, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    if route.query is None:
        return
    schema = route.query.model_json_schema(mode="validation", ref_template=_REFERENCES)
    required = schema.get("required", ())
    for name, item in schema["properties"].items():
        told = {key: value for key, value in item.items() if key not in ("title", "description")}
        parameter = {"name": name, "in": "query", "required": name in required, "schema": _without_null(told)}
        if "description" in item:
            parameter["description"] = item["description"]
        yield parameter


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A query has no null: what is optional is left out."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    return {**{key: value for key, value in schema.items() if key not in ("anyOf", "default")}, **options[0]}


def _answers(route: Route, schemas: _Schemas) -> dict[str, Any]:
    return {str(status): _answer(answer, schemas) for status, answer in route.answers.items()}


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    schema = {} if answer.type is None else {"schema": schemas.of(answer.type, "serialization")}
    return {"description": answer.description, "content": dict.fromkeys(answer.media_types, schema)}


def _errors(path: str, route: Route, schemas: _Schemas) -> dict[str, Any]:
    """By status, the codes that it may have."""
    kinds: dict[type[FnsyncError], None] = dict.fromkeys(route.errors)
    if route.who not in WITHOUT_TOKEN:
        kinds |= dict.fromkeys((Unauthorized, RateLimited))
    if route.query is not None:
        kinds[Invalid] = None
    if route.body is not None:
        kinds |= dict.fromkeys((Invalid, BodyTooLarge, Draining))
    kinds[Unexpected] = None
    codes: dict[int, set[str]] = {}
    for kind in kinds:
        codes.setdefault(kind.status, set()).add(kind.code)
    shape = schemas.of(OpenAIProblem if path.startswith("/v1/") else Problem, "serialization")
    found = {}
    for status, names in sorted(codes.items()):
        if status in route.answers:
            continue
        text = ", ".join(f"`{name}`" for name in sorted(names))
        found[str(status)] = {"description": text, "content": {"application/json": {"schema": shape}}}
        headers = _HEADERS.get(status)
        if headers:
            found[str(status)]["headers"] = headers
    return found


_RETRY = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}}
#: Of limited calls alone: not of too many wrong tokens.
_QUOTA = {
    "X-RateLimit-Limit": {"description": "Calls that the limit allows", "schema": {"type": "integer"}},
    "X-RateLimit-Remaining": {"description": "Calls that would pass now", "schema": {"type": "integer"}},
    "X-RateLimit-Reset": {"description": "When one more will, in seconds since 1970", "schema": {"type": "integer"}},
}
_HEADERS: Mapping[int, Any] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: _RETRY | _QUOTA,
    503: _RETRY,
}


class _Schemas:
    """Collects the schemas of models by name."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def of(self, kind: Any, mode: Any) -> dict[str, Any]:
        """The schema of a type; models are put among the found and referred to."""
        schema = TypeAdapter(kind).json_schema(mode=mode, ref_template=_REFERENCES)
        for name, definition in schema.pop("$defs", {}).items():
            self._add(name, definition)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            self._add(kind.__name__, schema)
            return {"$ref": _REFERENCES.format(model=kind.__name__)}
        return schema

    def _add(self, name: str, schema: Any) -> None:
        known = self.found.setdefault(name, schema)
        assert known == schema, f"two schemas are called {name}"
