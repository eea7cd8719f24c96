"""Of `open_webui.models.config`: settings of Open WebUI, none of which is set here: each has the given default."""

from __future__ import annotations

from typing import Any

from fnsync.worker.compat.ready import answers
from fnsync.worker.compat.records import Asking


class Config:
    """Gives defaults."""

    @staticmethod
    @answers
    def get(key: str, default: Any = None) -> Asking:
        yield from ()
        return default

    @staticmethod
    @answers
    def get_many(*keys: str) -> Asking:
        yield from ()
        return {}

    @staticmethod
    @answers
    def get_namespace(namespace: str) -> Asking:
        yield from ()
        return {}
