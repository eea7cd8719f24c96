"""What functions find at `__request__.app`: the models, and the addresses of files (function-contract §7.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

from starlette.datastructures import URLPath
from starlette.routing import NoMatchFound

from fnsync.worker import host
from fnsync.worker.output import current_call

#: Routes of Open WebUI by name, of those that functions name and this server has.
ROUTES: Mapping[str, str] = {"get_file_content_by_id": "/api/v1/files/{id}/content"}


def _models() -> dict[str, Any]:
    """The entries of the models that the caller may use, by id."""
    told = host.current().ask("models", {})
    assert isinstance(told, host.Told), "a list does not stream"
    return {entry["id"]: entry for entry in told.value}


#: What the function itself has put into `app.state`; as long as its worker lives, as in Open WebUI's process.
_kept: dict[str, Any] = {}
#: What there is besides the models.
_CONSTANT: Mapping[str, Any] = {
    "WEBUI_NAME": "fnsync",
    "instance_id": "fnsync",
    "redis": None,
    "OLLAMA_MODELS": MappingProxyType({}),
    "FUNCTIONS": MappingProxyType({}),
    "FUNCTION_CONTENTS": MappingProxyType({}),
    "TOOL_SERVERS": (),
}
_OF_MODELS = ("MODELS", "OPENAI_MODELS", "BASE_MODELS")


class _Values(MutableMapping[str, Any]):
    """`app.state._state` of one request: the models of who calls, asked for when they are first read, and the rest."""

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}
        #: The call whose models these are: a function may keep the request, and read it in another user's call.
        self._call: int | None = None

    def __getitem__(self, name: str) -> Any:
        if name in _kept:
            return _kept[name]
        if name not in _OF_MODELS:
            return _CONSTANT[name]
        if (call := current_call.get()) != self._call:
            self._models, self._call = _models(), call
        return list(self._models.values()) if name == "BASE_MODELS" else self._models

    def __setitem__(self, name: str, value: Any) -> None:
        _kept[name] = value

    def __delitem__(self, name: str) -> None:
        del _kept[name]

    def __contains__(self, name: object) -> bool:
        return name in _kept or name in _CONSTANT or name in _OF_MODELS

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*_OF_MODELS, *_CONSTANT, *_kept]))

    def __len__(self) -> int:
        return len(list(iter(self)))


class ApplicationState:
    """`app.state`."""

    def __init__(self) -> None:
        object.__setattr__(self, "_state", _Values())

    def __getattr__(self, name: str) -> Any:
        values: _Values = object.__getattribute__(self, "_state")
        if name not in values:
            raise AttributeError(f"app.state has no {name!r} here")
        return values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        _kept[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in _kept:
            raise AttributeError(name)
        del _kept[name]


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
