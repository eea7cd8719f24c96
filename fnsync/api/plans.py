"""Tells what a sync, a pull or a merge would do, before it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from fnsync.api.exchange import Exchange
from fnsync.api.forms import Form, read_query
from fnsync.api.routes import Answer, Route, api_route
from fnsync.api.syncing import GROUP
from fnsync.errors import (
    FetchFailed,
    Invalid,
    NotFound,
    NotWritable,
    PullRefused,
    RepositoryError,
    SourceRefused,
    Unauthorized,
    UnknownRef,
)
from fnsync.model import REPOSITORY
from fnsync.plans import Plans
from fnsync.plantext import to_markdown, to_text
from fnsync.syncplan import Action, SyncPlan

if TYPE_CHECKING:
    from fnsync.service import Service

Format = Literal["json", "markdown", "text"]
#: Asked for by name, and what of it is sent.
_MEDIA: dict[Format, str] = {
    "json": "application/json",
    "markdown": "text/markdown; charset=utf-8",
    "text": "text/plain; charset=utf-8",
}


class PlanQuery(Form):
    source: str | None = Field(
        None, max_length=100, description="A source's name, or `repository` for the next pull; without `ref` it is that"
    )
    ref: str | None = Field(
        None, max_length=300, description="A branch, tag, commit or `pr/N` of the repository of the functions folder"
    )
    load: bool | None = Field(
        None,
        description="Whether what comes is loaded in workers; else nothing is executed. Without it: for a token in the "
        "header `Authorization`",
    )
    format: Format | None = Field(None, description="Without it, what the header `Accept` asks for")


class DifferenceAnswer(BaseModel):
    what: str = Field(description="What of the function differs: `source`, `valves`, `settings`, …")
    name: str = Field(description="Which of them: a file, a field, a key")
    change: Literal["added", "removed", "changed"]
    before: str | None = Field(description="What it was, for people; never the value of a valve")
    after: str | None


class ProblemAnswer(BaseModel):
    code: str
    message: str
    path: str | None
    line: int | None
    column: int | None
    text: str | None = Field(description="The line itself")
    hint: str | None
    traceback: list[str]


class FunctionChangeAnswer(BaseModel):
    id: str
    path: str
    source: str
    action: Action
    changes: list[str] = Field(description="What differs, by kind")
    details: list[DifferenceAnswer]
    more_details: int = Field(description="How many more there are")
    error: ProblemAnswer | None = Field(description="Why it would not go live")
    warnings: list[str]
    before: str | None = Field(description="The revision of its files now")
    after: str | None = Field(description="The revision of its files then")
    live: bool = Field(description="Whether it answers calls now")


class PlanAnswer(BaseModel):
    source: str = Field(description="`local`: the functions folder")
    ref: str | None
    before: str | None = Field(description="The commit that is there now")
    after: str = Field(description="The commit that it is a plan of")
    loaded: bool = Field(description="Whether what comes was loaded in workers")
    totals: dict[str, int] = Field(description="Functions by action, and `failing`")
    wrong: bool = Field(description="Whether something would not go live")
    gate_all: bool = Field(description="Whether a sync with `gate: all` applies it")
    removed_share: float = Field(description="The part of the functions that serve now which would be removed")
    prune: bool
    notes: list[str]
    refused: list[ProblemAnswer] = Field(description="Files that look like functions and can be none")
    functions: list[FunctionChangeAnswer]


class PlanEndpoints:
    """Answers what would change."""

    def __init__(self, service: Service) -> None:
        self._plans = service.plans

    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            api_route(
                "GET",
                "/plan",
                self.plan,
                "admin",
                "What a sync, a pull or a merge would do, function by function",
                GROUP,
                {200: Answer(PlanAnswer, "The plan; as Markdown or text where that is asked for", _media_types())},
                query=PlanQuery,
                errors=(
                    FetchFailed,
                    Invalid,
                    NotFound,
                    NotWritable,
                    PullRefused,
                    RepositoryError,
                    SourceRefused,
                    UnknownRef,
                ),
            )
        ]

    async def plan(self, exchange: Exchange) -> None:
        """`GET /api/plan`."""
        query = read_query(exchange, PlanQuery)
        if query.source is not None and query.ref is not None:
            raise Invalid("source and ref: expected one of them", param="ref")
        if self._plans is None:
            raise RepositoryError("this server makes no plans")
        plan = await _asked(self._plans, query, _load(exchange, query))
        format = query.format or _accepted(exchange)
        if format == "json":
            await exchange.json(200, plan.to_dict())
            return
        text = to_markdown(plan) if format == "markdown" else to_text(plan)
        await exchange.plain(200, _MEDIA[format], text.encode(), [])


async def _asked(plans: Plans, query: PlanQuery, load: bool) -> SyncPlan:
    if query.ref is not None:
        return await plans.of_ref(query.ref, load=load)
    return await plans.of_source(query.source or REPOSITORY, load=load)


def _load(exchange: Exchange, query: PlanQuery) -> bool:
    """Whether to execute what comes. A cookie is no reason to: another site can have a browser send it along."""
    if exchange.authorization:
        return query.load is not False
    if query.load:
        raise Unauthorized(
            "load executes code, which a cookie is not enough for", hint="send the token in the header Authorization"
        )
    return False


def _accepted(exchange: Exchange) -> Format:
    """The format that the request's header asks for; JSON where it does not say."""
    accept = next((value for name, value in exchange.scope["headers"] if name == b"accept"), b"")
    types = [part.partition(b";")[0].strip().lower() for part in accept.split(b",")]
    names: dict[bytes, Format] = {b"text/markdown": "markdown", b"text/plain": "text", b"application/json": "json"}
    return next((names[type] for type in types if type in names), "json")


def _media_types() -> tuple[str, ...]:
    return tuple(media.partition(";")[0] for media in _MEDIA.values())
