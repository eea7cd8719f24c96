"""What clients send, as values: bodies and queries through the models that also describe them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from fnsync.api.exchange import Exchange
from fnsync.errors import Invalid

#: Bodies above this are read off the loop.
LARGE_BODY_BYTES = 256 * 1024
#: How many mistakes of one body are told.
MANY_MISTAKES = 10


class Form(BaseModel):
    """A body or a query; keys it does not know are ignored, as in Open WebUI."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


F = TypeVar("F", bound=BaseModel)


async def read_body(exchange: Exchange, form: type[F], limit: int, *, optional: bool = False) -> F:
    """The body as a `form`; where it is `optional`, the form's defaults without one. Raises Invalid that names each
    wrong field, and what `Exchange.body` raises."""
    body = await exchange.body(limit)
    if optional and not body.strip():
        body = b"{}"
    if len(body) > LARGE_BODY_BYTES:
        return await asyncio.to_thread(parse, form, body)
    return parse(form, body)


def parse(form: type[F], body: bytes) -> F:
    """JSON as a `form`. Raises Invalid that names each wrong field."""
    if not body.strip():
        raise Invalid("the body is empty; expected a JSON object")
    try:
        return form.model_validate_json(body)
    except ValidationError as exc:
        raise _invalid(exc) from exc


def read_query(exchange: Exchange, form: type[F]) -> F:
    """The query as a `form`; of a key given twice the last counts. Raises Invalid that names each wrong field."""
    try:
        return form.model_validate(dict(exchange.query))
    except ValidationError as exc:
        raise _invalid(exc) from exc


def _invalid(exc: ValidationError) -> Invalid:
    errors = exc.errors(include_url=False, include_input=False, include_context=False)
    told = [_mistake(error) for error in errors[:MANY_MISTAKES]]
    if len(errors) > MANY_MISTAKES:
        told.append(f"and {len(errors) - MANY_MISTAKES} more")
    param = dotted(errors[0]["loc"]) or None
    return Invalid("; ".join(told), param=param)


def _mistake(error: ErrorDetails) -> str:
    where = dotted(error["loc"])
    if error["type"] == "json_invalid":
        return f"the body is no JSON: {error['msg'].removeprefix('Invalid JSON: ')}"
    return f"{where}: {error['msg']}" if where else f"the body: {error['msg']}"


def dotted(loc: Sequence[Any]) -> str:
    """The place of a field, as in `functions[0].id`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
