"""What the Functions API answers, as models that also describe it. The shapes are Open WebUI's (http-api §2)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class Summary(BaseModel):
    """A function without its source."""

    version_id: str | None = Field(description="The commit that made the function what it is; null before the first")
    id: str
    user_id: str = Field(description="Who made it")
    type: str | None = Field(description="pipe, filter, action, event or pipeline; null while that cannot be told")
    name: str
    meta: dict[str, Any] = Field(description="description, manifest (the frontmatter), toggle, and what clients add")
    is_active: bool
    is_global: bool
    updated_at: int = Field(description="Seconds since the epoch")
    created_at: int = Field(description="Seconds since the epoch")
    source: str | None = Field(None, description="The source (git) it is mirrored from; local ones have no such key")


class Full(Summary):
    """A function with its source."""

    content: str


class WithValves(Full):
    """A function with its source and its stored valves."""

    valves: dict[str, Any]


class Owner(BaseModel):
    id: str
    name: str
    role: str
    email: str


class WithOwner(Summary):
    user: Owner | None


class Loaded(BaseModel):
    """A source that was fetched."""

    name: str
    content: str


class UserName(BaseModel):
    name: str


class Entry(BaseModel):
    """A version of a function."""

    id: str = Field(description="The commit")
    function_id: str
    parent_id: str | None = Field(description="The version before it")
    user_id: str | None
    commit_message: str | None
    created_at: int = Field(description="Seconds since the epoch")
    user: UserName | None


class Snapshot(BaseModel):
    name: str
    content: str
    meta: dict[str, Any]


class Version(Entry):
    snapshot: Snapshot


class Difference(BaseModel):
    from_id: str
    to_id: str
    metadata: dict[str, Any] = Field(description="name and meta, as before and after, where they differ")
    content_diff: str = Field(description="A unified diff")
    line_endings_only: bool


class HeldVersion(BaseModel):
    revision: str | None = Field(description="null: its files cannot be read")
    version: str | None = Field(description="The commit; null: it is in none, or in an older one than those looked at")


class Versions(BaseModel):
    """The newest versions of a function, and which of them is in use."""

    id: str
    path: str = Field(description="Of its source, from the functions folder; NAME:PATH in a source")
    source: str = Field(description="`local`, or the name of the source that brings it")
    uncommitted: bool = Field(description="Whether what is on disk is not what the last commit says")
    disk: HeldVersion = Field(description="What is on disk")
    live: HeldVersion | None = Field(description="What answers calls; null: nothing does")
    versions: list[Entry] = Field(description="Newest first")
    more: bool = Field(description="Whether there are older ones")


class Proposed(BaseModel):
    """An edit that waits for review on a branch."""

    branch: str
    commit: str
    pushed: bool
    compare_url: str | None = Field(description="Where a pull request is opened, if the host is known")
    detail: str


class ImportOutcome(BaseModel):
    """What became of one function of an import."""

    source: str = Field(description="As the export calls it")
    id: str | None = Field(description="What it is called here; null: it is not here")
    outcome: Literal["created", "updated", "unchanged", "skipped", "refused"]
    reason: str | None


class Imported(BaseModel):
    """What an import came to, in the order of the list."""

    commit: str | None = Field(description="null: nothing is different")
    outcomes: list[ImportOutcome]


class ImportProposed(Imported):
    """An import that waits for review."""

    proposal: Proposed


class KeptSecret(BaseModel):
    """What is still encrypted with an old key, so that no key was dropped."""

    function: str
    field: str | None = Field(description="The valve; null: all of them")
    user: str | None = Field(description="Whose value it is; null: the function's own")
    reason: str


class RotatedAnswer(BaseModel):
    """What a rotation came to."""

    commit: str | None = Field(description="null: no settings file is different")
    settings: int = Field(description="Values in settings files that were encrypted anew")
    user_valves: int = Field(description="Users' values for a function that were encrypted anew")
    given: bool = Field(description="Whether FNSYNC_SECRET_KEY says which key encrypts")
    dropped_keys: int = Field(description="Of those in the data folder; none while something needs them")
    kept: list[KeptSecret]
    proposal: Proposed | None = Field(description="With `repository.write: branch`: where the settings files wait")
