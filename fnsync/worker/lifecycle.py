"""What an event function is given of a lifecycle event (function-contract §5)."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from fnsync.worker.arguments import Signature


def values(signature: Signature, event: Any, context: bytes) -> dict[str, Any]:
    """The arguments that only events have, of those that the handler names; `**kwargs` gets all of them."""
    named = event if isinstance(event, dict) else {}
    given = {"event": event, "__event__": event, "__event_name__": named.get("event"), "__event_id__": named.get("id")}
    if signature.open:
        sent: dict[str, Any] = msgspec.json.decode(context) if context else {}
        given |= {"__id__": sent.get("__id__"), "__request__": None}
        given = {name: value for name, value in given.items() if name not in signature.reserved}
    else:
        given = {name: value for name, value in given.items() if name in signature.names}
    if signature.open or "__app__" in signature.names:
        given["__app__"] = _app()
    return given


@cache
def _app() -> Any:
    """An application that serves nothing: the server's own is in another process."""
    from fastapi import FastAPI  # start time: hardly any function asks for it

    return FastAPI(openapi_url=None)
