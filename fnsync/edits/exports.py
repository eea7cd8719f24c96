"""The format of an export: Open WebUI's, as a file of its admin page or of its community site has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from fnsync.edits.drafts import Content
from fnsync.edits.entries import Entry, Outcome
from fnsync.errors import Invalid
from fnsync.model import LOCAL, FunctionRow, RowSummary

#: The times that a commit message can hold, in seconds since the epoch.
FURTHEST_S = 999_999_999_999
#: How many mistakes of one entry are told.
MANY_MISTAKES = 5
#: How much of a name is repeated in a report, in characters.
SHOWN_CHARACTERS = 200

Seconds = Annotated[int, Field(ge=-FURTHEST_S, le=FURTHEST_S, description="Seconds since the epoch")]


class ExportEntry(BaseModel):
    """A function of an export; keys that are not named here are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    id: str = Field(description="What is none here is made one")
    content: str
    name: str = Field("", description="Without it the frontmatter's title, or the id")
    meta: dict[str, Any] | None = None
    is_active: bool = False
    is_global: bool = False
    created_at: Seconds | None = None
    updated_at: Seconds | None = None
    user_id: str | None = Field(None, max_length=1000)
    valves: dict[str, Any] | None = Field(None, description="In clear; without it stored ones stay")

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, value: Any) -> Any:
        return _inner(value)

    def entry(self) -> Entry:
        """The entry as a value of ours."""
        return Entry(
            self.id,
            Content(self.name, self.content, self.meta or {}),
            self.is_active,
            self.is_global,
            self.valves,
            self.created_at,
            self.updated_at,
            self.user_id,
        )


def _inner(value: Any) -> Any:
    """An entry without what the community site wraps it in."""
    inner = value.get("function") if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else value


def _or_refused(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """What is wrong with one entry stops no other."""
    try:
        return read(value).entry()
    except ValidationError as exc:
        return Outcome(named(value), "refused", None, _told(exc))


#: An Entry, or the Outcome of one that is none; in the description of the API an ExportEntry.
LenientEntry = Annotated[ExportEntry, WrapValidator(_or_refused)]


class _Entries(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    entries: list[LenientEntry]


def entries(values: list[Any]) -> list[Entry | Outcome]:
    """The functions of an export, and what became of those that are none; each is JSON's data."""
    return taken(_Entries(entries=values).entries)


def taken(values: list[ExportEntry]) -> list[Entry | Outcome]:
    """What a list of LenientEntry holds really."""
    return list(values)  # type: ignore[arg-type]  # the validator put other values in their place


def functions_in(document: Any) -> list[Any]:
    """The entries of a whole export: a list, an object with one under `functions`, or one function. Raises Invalid."""
    found = document.get("functions", document) if isinstance(document, dict) else document
    if isinstance(found, list):
        return found
    if isinstance(found, dict) and "content" in _inner(found):
        return [found]
    what = {dict: "an object", str: "a text", bool: "a truth value", type(None): "null"}.get(type(found), "a number")
    hint = "an export is what Open WebUI's admin page downloads, or what fnsync export writes"
    raise Invalid(f"expected a list of functions; found {what}", hint=hint)


def named(value: Any) -> str:
    """What an entry calls itself, as far as it does."""
    found = _inner(value)
    id = found.get("id") if isinstance(found, dict) else None
    return id[:SHOWN_CHARACTERS] if isinstance(id, str) else ""


# ---- as it is written ------------------------------------------------------------------------------------


def listed(row: FunctionRow | RowSummary) -> dict[str, Any]:
    """A row without its source text, as lists have it: with the source (git) of one that is not local."""
    return summary(row) if row.source == LOCAL else {**summary(row), "source": row.source}


def shown(row: FunctionRow) -> dict[str, Any]:
    """A row with its source text, and the source (git) of one that is not local."""
    return {**listed(row), "content": row.content}


def summary(row: FunctionRow | RowSummary) -> dict[str, Any]:
    """A row without its source text, as the peer has it."""
    return {
        "version_id": row.version,
        "id": row.id,
        "user_id": row.user_id,
        "type": row.type,
        "name": row.name,
        "meta": row.meta,
        "is_active": row.is_active,
        "is_global": row.is_global,
        "updated_at": row.updated_at,
        "created_at": row.created_at,
    }


def full(row: FunctionRow) -> dict[str, Any]:
    """A row with its source text, as the peer has it."""
    return {**summary(row), "content": row.content}


def exported(row: FunctionRow, valves: Mapping[str, Any] | None) -> dict[str, Any]:
    """A row as an export has it; `valves` are the stored ones in clear, or None."""
    return full(row) if valves is None else {**full(row), "valves": valves}


# ---- what is wrong ---------------------------------------------------------------------------------------


def _told(exc: ValidationError) -> str:
    """Each field that is wrong, and never a value."""
    errors = exc.errors(include_url=False, include_input=False, include_context=False)
    if not errors[0]["loc"]:
        return "expected an object with the keys of a function"
    told = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors[:MANY_MISTAKES]]
    if len(errors) > MANY_MISTAKES:
        told.append(f"and {len(errors) - MANY_MISTAKES} more")
    return "; ".join(told)
