"""Of `open_webui.main`: completions as a request over HTTP gets them, filters and all."""

from __future__ import annotations

from typing import Any

from fnsync.worker.compat.completing import complete


async def chat_completion(request: Any, form_data: dict[str, Any], user: Any = None) -> Any:
    """The answer of a model, as `/api/chat/completions` gives it: a dict, or a response."""
    return await complete(request, form_data, user, filters=True)


generate_chat_completions = chat_completion
