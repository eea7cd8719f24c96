"""What a worker is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fnsync.config import VARIABLE_PREFIX
from fnsync.errors import FnsyncError, LoadFailed, ValvesUnfit
from fnsync.model import LOCAL, LiveFunction, Misfit, Problem, Revision, reference_of
from fnsync.places import source_of

#: Gives the value that `{secret: TEXT}` stands for. Raises FnsyncError: another key encrypted the text.
Decrypt = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything a worker needs to know before it answers its first call."""

    #: What its processes and logs go by.
    function: str
    #: What it is called by whom it runs for.
    id: str
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
    #: Requirements that nobody declared.
    inferred: tuple[str, ...] = ()
    #: Names of valves that were references: what is said against them must not tell them.
    sealed: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where that which settings and revisions only name is found."""

    #: A revision's snapshot folder.
    snapshot: Callable[[Revision], Path]
    #: The server's environment.
    environ: Mapping[str, str]
    #: None: this server has no way to decrypt.
    decrypt: Decrypt | None = None


def spec_of(function: LiveFunction, sources: Sources) -> WorkerSpec:
    """Raises LoadFailed when a valve or a permission refers to something that is not there, or not for functions."""
    spec, refused = resolvable_spec_of(function, sources)
    if refused:
        raise refused[0]
    return spec


def resolvable_spec_of(function: LiveFunction, sources: Sources) -> tuple[WorkerSpec, list[ValvesUnfit]]:
    """The spec without those valves that cannot be resolved, and why they cannot. Raises LoadFailed when something
    is referred to that is not for functions."""
    permitted = function.settings.permissions.env
    for name in permitted:
        _check_not_ours(function, "permissions.env", name)
    if function.preview is not None:
        permitted = tuple(name for name in permitted if _is_given(function, "env", name))
    valves, refused = _resolved(function, sources)
    spec = WorkerSpec(
        function=function.runs_as,
        id=function.id,
        revision=function.revision,
        snapshot=sources.snapshot(function.revision),
        entry=function.entry,
        shown=function.shown,
        valves=valves,
        variables={name: sources.environ[name] for name in permitted if name in sources.environ},
        requirements=function.frontmatter.requirements,
        requires_python=function.frontmatter.requires_python,
        inferred=function.frontmatter.inferred,
        sealed=sealed_of(function.settings.valves),
    )
    return spec, refused


def sealed_of(valves: Mapping[str, Any]) -> frozenset[str]:
    """The names of values that are references, to what nobody is to read."""
    return frozenset(name for name, value in valves.items() if reference_of(value) is not None)


def resolve_valves(function: LiveFunction, sources: Sources) -> dict[str, Any]:
    """The stored values, references replaced by what they stand for. Raises LoadFailed."""
    valves, refused = _resolved(function, sources)
    if refused:
        raise refused[0]
    return valves


def _resolved(function: LiveFunction, sources: Sources) -> tuple[dict[str, Any], list[ValvesUnfit]]:
    values, refused = {}, []
    for name, value in function.settings.valves.items():
        try:
            values[name] = _resolve(function, name, value, sources)
        except ValvesUnfit as exc:
            refused.append(exc)
    return values, refused


def _resolve(function: LiveFunction, name: str, value: Any, sources: Sources) -> Any:
    match reference_of(value):
        case ("env" | "secret" as kind, target) if not _is_given(function, kind, target):
            raise _withheld(function, name, kind, target)
        case ("env", variable):
            _check_not_ours(function, f"valves.{name}", variable)
            if variable not in sources.environ:
                raise _unresolved(
                    function,
                    name,
                    f"the server's environment has no variable {variable}",
                    hint=f"start the server with {variable} set, or write the value in the settings file",
                )
            return sources.environ[variable]
        case ("secret", text):
            return _decrypted(function, name, text, sources.decrypt)
    return value


def _is_given(function: LiveFunction, kind: str, target: str) -> bool:
    """Whether a function gets what a reference stands for: nobody has read the settings of a preview yet."""
    return function.preview is None or (kind, target) in function.preview.given


def _withheld(function: LiveFunction, name: str, kind: str, target: str) -> ValvesUnfit:
    what = f"the variable {target}" if kind == "env" else "this encrypted value"
    return _unresolved(
        function,
        name,
        f"{what} is not given to a preview, since the settings of the live function do not name it",
        hint="merge the settings first, or write a plain value there",
    )


def _decrypted(function: LiveFunction, name: str, text: str, decrypt: Decrypt | None) -> str:
    if decrypt is None:
        raise _unresolved(
            function,
            name,
            "it is encrypted, and this server cannot decrypt valves",
            hint=f"give it as `{name}: {{env: NAME}}` instead",
        )
    is_local = source_of(function.path) == LOCAL
    otherwise = "set the value anew" if is_local else f"have the source say `{name}: {{env: NAME}}` instead"
    try:
        return decrypt(text)
    except FnsyncError as exc:
        raise _unresolved(
            function,
            name,
            "it was encrypted with another key than this server's",
            hint=f"start the server with FNSYNC_SECRET_KEY set to the key it was encrypted with, or {otherwise}",
        ) from exc


def _check_not_ours(function: LiveFunction, key: str, variable: str) -> None:
    """The settings file was checked for this; settings recorded by an older version were not."""
    if str(variable).startswith(VARIABLE_PREFIX):
        raise LoadFailed(
            function.id,
            Problem(
                "permissions",
                f"{key}: {variable} is the server's own, and not for functions",
                _settings_path(function),
                hint=f"give the value to the server under a name that does not begin with {VARIABLE_PREFIX}",
            ),
        )


def _unresolved(function: LiveFunction, name: str, message: str, *, hint: str) -> ValvesUnfit:
    problem = Problem("valves", f"valves.{name}: {message}", _settings_path(function), hint=hint)
    # Nobody can tell whether it would fit; for the function it is not there.
    return ValvesUnfit(function.id, problem, (Misfit(name, message, missing=True),))


def _settings_path(function: LiveFunction) -> str:
    return function.path.removesuffix(".py") + ".yaml"
