"""Of `open_webui.utils.chat`: completions for the user of the call, without filters."""

from __future__ import annotations

from typing import Any

from fnsync.worker.compat.completing import complete


async def generate_chat_completion(
    request: Any,
    form_data: dict[str, Any],
    user: Any = None,
    bypass_filter: bool = False,
    bypass_system_prompt: bool = False,
) -> Any:
    """The answer of the model that `form_data` names: a dict, or with `stream` a StreamingResponse.

    The two last arguments make no difference: what a user may use always counts, and models have no system prompts of
    their own here.
    """
    return await complete(request, form_data, user, filters=False)
