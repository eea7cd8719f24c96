"""Results of actions that are a page, or the address of one, to be shown beside the answer (function-contract §4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fnsync.worker import results


@dataclass(frozen=True, slots=True)
class Embed:
    """What is to be shown, and what the caller is told."""

    #: HTML, or an address.
    content: str
    #: What the action wants the caller to be told: str, dict or list; None: nothing.
    context: Any = None

    @property
    def event(self) -> bytes:
        """The event that shows it, JSON."""
        return results.to_json({"type": "embeds", "data": {"embeds": [self.content]}})

    def answer(self, function: str) -> str:
        """The call's result: text, or JSON as text."""
        if isinstance(self.context, str):
            return self.context
        told = self.context
        if told is None:
            message = f"{function}: the page is embedded, and the user sees it"
            told = {"status": "success", "code": "ui_component", "message": message}
        return json.dumps(json.loads(results.to_json(told)), indent=2, ensure_ascii=False)


def embed_of(value: Any) -> Embed | None:
    """What an action's result has shown; None: it is no such result. Raises Fault for a page that is no text."""
    if _is_inline_page(value):
        return Embed(_text(value.body))
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    first, second = value
    if _is_inline_page(first):
        return Embed(_text(first.body), second if isinstance(second, str | dict | list) else None)
    if not isinstance(second, Mapping):
        return None
    headers = {str(name).lower(): str(text) for name, text in second.items()}
    if not _is_inline(headers.get("content-disposition", "")):
        return None
    if location := headers.get("location"):
        return Embed(location)
    if headers.get("content-type", "").lower().startswith("text/html") and isinstance(first, str | bytes):
        return Embed(_text(first))
    return None


def _is_inline_page(value: Any) -> bool:
    if not results.is_response(value) or not isinstance(getattr(value, "body", None), bytes | memoryview):
        return False
    is_html = str(value.headers.get("content-type", "")).lower().startswith("text/html")
    return is_html and _is_inline(value.headers.get("content-disposition", ""))


def _is_inline(disposition: str) -> bool:
    return disposition.partition(";")[0].strip().lower() == "inline"


def _text(page: str | bytes | memoryview) -> str:
    return page if isinstance(page, str) else results.text_of(bytes(page))
