"""Of `open_webui.routers.models`: the list of models."""

from __future__ import annotations

from typing import Any

from fnsync.worker.compat.open_webui.models.models import ModelResponse, Models


async def get_models(*_: Any, **__: Any) -> Any:
    """The models that the caller may use."""
    found = await Models.get_all_models()
    return [ModelResponse(**one.model_dump()) for one in found]
