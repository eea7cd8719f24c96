"""`schemas` of a Pipelines server: what sources annotate their messages with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class OpenAIChatMessage(BaseModel):
    """A message of a chat; keys that are not named here are kept."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[Any] | None = None
