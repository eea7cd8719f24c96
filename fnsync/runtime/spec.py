"""What a worker is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnsync.config import VARIABLE_PREFIX
from fnsync.errors import LoadFailed
from fnsync.model import LiveFunction, Problem, Revision


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything a worker needs to know before it answers its first call."""

    function: str
    revision: Revision
    #: The snapshot's folder, absolute.
    snapshot: Path
    entry: str
    shown: Mapping[str, str]
    #: Stored valve values, references resolved.
    valves: Mapping[str, Any]
    #: Environment variables it may see besides those that every worker sees.
    variables: Mapping[str, str]
    requirements: tuple[str, ...]
    requires_python: str | None


def spec_of(function: LiveFunction, folder: Callable[[Revision], Path], environ: Mapping[str, str]) -> WorkerSpec:
    """Raises LoadFailed when a valve or a permission refers to something that is not there, or not for functions."""
    permitted = function.settings.permissions.env
    for name in permitted:
        _check_not_ours(function, "permissions.env", name)
    return WorkerSpec(
        function=function.id,
        revision=function.revision,
        snapshot=folder(function.revision),
        entry=function.entry,
        shown=function.shown,
        valves=resolve_valves(function, environ),
        variables={name: environ[name] for name in permitted if name in environ},
        requirements=function.frontmatter.requirements,
        requires_python=function.frontmatter.requires_python,
    )


def resolve_valves(function: LiveFunction, environ: Mapping[str, str]) -> dict[str, Any]:
    """The stored values with `{env: NAME}` replaced by the server's variable. Raises LoadFailed."""
    return {name: _resolve(function, name, value, environ) for name, value in function.settings.valves.items()}


def _resolve(function: LiveFunction, name: str, value: Any, environ: Mapping[str, str]) -> Any:
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    (reference, target), *_ = value.items()
    if reference == "env":
        _check_not_ours(function, f"valves.{name}", target)
        if target not in environ:
            raise _refused(
                function,
                "valves",
                f"valves.{name}: the server's environment has no variable {target}",
                f"start the server with {target} set, or write the value in the settings file",
            )
        return environ[target]
    if reference == "secret":
        raise _refused(
            function,
            "valves",
            f"valves.{name} is encrypted, and this version cannot decrypt valves",
            f"give it as `{name}: {{env: NAME}}` instead",
        )
    return value


def _check_not_ours(function: LiveFunction, key: str, variable: str) -> None:
    """The settings file was checked for this; settings recorded by an older version were not."""
    if str(variable).startswith(VARIABLE_PREFIX):
        raise _refused(
            function,
            "permissions",
            f"{key}: {variable} is the server's own, and not for functions",
            f"give the value to the server under a name that does not begin with {VARIABLE_PREFIX}",
        )


def _refused(function: LiveFunction, code: str, message: str, hint: str) -> LoadFailed:
    path = function.path.removesuffix(".py") + ".yaml"
    return LoadFailed(function.id, Problem(code, message, path, hint=hint))
