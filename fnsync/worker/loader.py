"""Loads a revision from its snapshot and tells what it is."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fnsync.runtime import wire
from fnsync.worker.faults import Fault

#: compile()'s flag for `from __future__ import annotations`.
LAZY_ANNOTATIONS = annotations.compiler_flag
#: Class name -> kind, in the order of precedence (function-contract §1.7).
CLASS_KINDS = {"Pipe": "pipe", "Filter": "filter", "Action": "action", "Event": "event", "Pipeline": "pipeline"}
#: Attributes that callers reach.
HANDLERS = (
    "pipe",
    "pipes",
    "inlet",
    "request",
    "stream",
    "outlet",
    "action",
    "event",
    "on_startup",
    "on_shutdown",
    "on_valves_updated",
)


class Function:
    """A loaded revision: its module and its one instance."""

    def __init__(self, id: str, module: types.ModuleType, kind: str, instance: Any) -> None:
        self.id = id
        self.module = module
        self.kind = kind
        self.instance = instance
        self._given_valves = _fields_set(getattr(instance, "valves", None))

    def handler(self, name: str) -> Any:
        """The attribute of that name. Raises Fault `no_handler`."""
        value = getattr(self.instance, name, None)
        if value is None or name not in HANDLERS:
            raise Fault("no_handler", f"{type(self.instance).__name__} has no `{name}`")
        return value

    def configure(self, stored: Mapping[str, Any]) -> None:
        """Set the instance's valves: field defaults, below the constructor's values, below the stored ones.

        Raises Fault `valves` naming the field; the instance then keeps the valves it had.
        """
        cls = getattr(self.instance, "Valves", None)
        if not isinstance(cls, type):
            return
        values = {**self._given_valves, **{key: value for key, value in stored.items() if value is not None}}
        if not values and not hasattr(self.instance, "valves"):
            return  # as in the peer: a class without `valves` gets none
        self.instance.valves = build_valves(cls, values, "valves")

    def user_valves(self, stored: Mapping[str, Any]) -> Any:
        """A UserValves object, or None without such a class. Stored values that do not fit give the defaults."""
        cls = getattr(self.instance, "UserValves", None)
        if not isinstance(cls, type):
            return None
        try:
            return build_valves(cls, stored, "user valves")
        except Fault as fault:
            print(f"stored user valves are not used: {fault}", file=sys.stderr)
            return build_valves(cls, {}, "user valves")


def load(describe: wire.Describe) -> Function:
    """Run the source and make the instance. Raises whatever the source raises, and Fault."""
    entry = Path(describe.snapshot) / describe.entry
    module = new_module(describe.function, entry)
    _extend_path(entry)
    code = compile(
        entry.read_bytes(),
        str(entry),
        "exec",
        # Annotations stay text, as in the peer: names that exist only for type checkers are harmless (§1.7).
        flags=LAZY_ANNOTATIONS,
        dont_inherit=True,
    )
    exec(code, module.__dict__)  # noqa: S102  running the function is this process's purpose
    kind, make = find_class(module)
    function = Function(describe.function, module, kind, make())
    function.configure(describe.valves)
    return function


def new_module(id: str, entry: Path) -> types.ModuleType:
    """Register an empty module `function_<id>`, a package over helpers and shared modules: relative imports work."""
    name = f"function_{id}"
    module = types.ModuleType(name)
    module.__file__ = str(entry)
    module.__path__ = [str(folder) for folder in _folders(entry)]
    module.__package__ = name
    sys.modules[name] = module
    return module


def _extend_path(entry: Path) -> None:
    """Make helpers beside main.py, and below them the shared modules, importable by their names."""
    sys.path[:0] = [str(folder) for folder in _folders(entry)]
    # The snapshot is immutable and shared by workers.
    sys.dont_write_bytecode = True


def _folders(entry: Path) -> tuple[Path, Path]:
    return entry.parent, entry.parent.parent / "shared"


def find_class(module: types.ModuleType) -> tuple[str, Callable[[], Any]]:
    """Return the kind and what makes the instance. Names imported from elsewhere do not count."""
    for name, kind in CLASS_KINDS.items():
        value = getattr(module, name, None)
        if callable(value) and getattr(value, "__module__", None) == module.__name__:
            return kind, value
    classes = [name for name, value in vars(module).items() if isinstance(value, type)]
    raise Fault(
        "load",
        f"defines no Pipe, Filter, Action, Event or Pipeline; found: {', '.join(classes) or 'no class'}",
        hint="rename the class, or start the file's name with _ if it is a shared module",
    )


def describe(function: Function) -> wire.Description:
    """Tell what the loaded function is. Raises Fault where a schema cannot be had."""
    instance = function.instance
    handlers = [found for name in HANDLERS if (found := describe_handler(instance, name)) is not None]
    actions = getattr(instance, "actions", None)
    return wire.Description(
        kind=function.kind,
        name=_text(getattr(instance, "name", None)),
        handlers=handlers,
        manifold=function.kind == "pipe" and hasattr(instance, "pipes"),
        valves_schema=schema_of(getattr(instance, "Valves", None)),
        user_valves_schema=schema_of(getattr(instance, "UserValves", None)),
        toggle=function.kind == "filter" and bool(getattr(instance, "toggle", False)),
        file_handler=bool(getattr(instance, "file_handler", False)),
        icon=_text(getattr(instance, "icon_url", None)) or _text(getattr(instance, "icon", None)),
        actions=[item for item in actions if isinstance(item, dict)] if isinstance(actions, list) else [],
    )


def describe_handler(instance: Any, name: str) -> wire.DescribedHandler | None:
    """The handler's signature; attributes that are not callable are none, but a list of `pipes` is kept."""
    value = getattr(instance, name, None)
    if value is None or not (callable(value) or name == "pipes"):
        return None
    if not callable(value):
        return wire.DescribedHandler(name, 0, False, False, [], False)
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()  # a callable of C, which tells nothing
    code = getattr(inspect.unwrap(value), "__code__", None)
    return wire.DescribedHandler(
        name=name,
        line=code.co_firstlineno if code else 0,
        is_async=inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value),
        is_generator=inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value),
        parameters=[p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)],
        var_keyword=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def schema_of(cls: Any) -> dict[str, Any] | None:
    """The JSON schema of a Valves class, or None where there is none."""
    if not isinstance(cls, type):
        return None
    make = getattr(cls, "model_json_schema", None)
    if make is None:
        return None
    schema: dict[str, Any] = make()
    return schema


def build_valves(cls: type, values: Mapping[str, Any], what: str) -> Any:
    """Make a Valves object. Raises Fault `valves` that names each field that does not fit."""
    try:
        return cls(**values)
    except Exception as exc:
        errors = getattr(exc, "errors", None)
        if not callable(errors):
            raise Fault("valves", f"{what}: {type(exc).__name__}: {exc}") from exc
        fields = "; ".join(f"{'.'.join(map(str, item['loc'])) or cls.__name__}: {item['msg']}" for item in errors())
        hint = "correct the values under `valves:` in the settings file" if what == "valves" else None
        raise Fault("valves", f"{what} do not fit: {fields}", hint=hint) from exc


def _fields_set(valves: Any) -> dict[str, Any]:
    """What the constructor gave explicitly; a model knows, another object gives all it has."""
    if valves is None:
        return {}
    names = getattr(valves, "model_fields_set", None)
    if names is not None:
        return {name: getattr(valves, name) for name in names}
    return dict(vars(valves)) if hasattr(valves, "__dict__") else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
