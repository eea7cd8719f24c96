"""What functions find at `__request__.app`: the models, and the addresses of files (function-contract §7.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import URLPath
from starlette.routing import NoMatchFound

from fnsync.worker import host

#: Routes of Open WebUI by name, of those that functions name and this server has.
ROUTES: Mapping[str, str] = {"get_file_content_by_id": "/api/v1/files/{id}/content"}


def _models() -> dict[str, Any]:
    """The entries of the models that the caller may use, by id."""
    told = host.current().ask("models", {})
    assert isinstance(told, host.Told), "a list does not stream"
    return {entry["id"]: entry for entry in told.value}


class ApplicationState:
    """`app.state`: what there is of Open WebUI's. `MODELS` is asked for when it is first read."""

    WEBUI_NAME = "fnsync"
    instance_id = "fnsync"
    redis = None

    def __init__(self) -> None:
        self.OLLAMA_MODELS: dict[str, Any] = {}
        self.FUNCTIONS: dict[str, Any] = {}
        self.FUNCTION_CONTENTS: dict[str, str] = {}
        self.TOOL_SERVERS: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name in ("MODELS", "OPENAI_MODELS", "BASE_MODELS"):
            self.MODELS = self.OPENAI_MODELS = models = _models()
            self.BASE_MODELS = list(models.values())
            return getattr(self, name)
        raise AttributeError(f"app.state has no {name!r} here")

    @property
    def _state(self) -> dict[str, Any]:
        return {"MODELS": self.MODELS, **vars(self)}


class Application:
    """`__request__.app`."""

    def __init__(self) -> None:
        self.state = ApplicationState()

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """The address of a route. Raises NoMatchFound for those that this server does not have."""
        if name not in ROUTES:
            raise NoMatchFound(name, path_params)
        try:
            return URLPath(ROUTES[name].format(**path_params), "http")
        except KeyError as exc:
            raise NoMatchFound(name, path_params) from exc
