"""Loads a revision from its snapshot and tells what it is."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fnsync.runtime import wire
from fnsync.worker import results, rewriting, valves
from fnsync.worker.faults import Fault
from fnsync.worker.pipelines import finder

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
        #: Stored valves that do not fit; it must not be called then.
        self.misfits: Sequence[wire.Misfit] = ()
        given = getattr(instance, "valves", None)
        self._given_valves = _fields_set(given)
        #: None: there is no such class.
        self.valves_class = _class_of(instance, "Valves")
        self.user_valves_class = _class_of(instance, "UserValves")
        if kind == "pipeline" and valves.is_model(type(given)):
            self.valves_class = type(given)  # what Pipelines goes by, wherever the class stands

    def described(self, found: wire.Description) -> wire.Description:
        """What is told of the function, given what is told of every kind."""
        return found

    def to_item(self, value: Any) -> str | bytes | None:
        """One item of a stream; as results.to_item."""
        return results.to_item(value)

    def has_hook(self, name: str) -> bool:
        """Whether it has something to run at the beginning or the end of its life; only pipelines do."""
        return False

    async def run_hook(self, name: str) -> None:
        """Run that. Raises what it raises."""

    def handler(self, name: str) -> Any:
        """The attribute of that name. Raises Fault `no_handler`."""
        value = getattr(self.instance, name, None)
        if value is None or name not in HANDLERS:
            raise Fault("no_handler", f"{type(self.instance).__name__} has no `{name}`")
        return value

    def configure(self, stored: Mapping[str, Any], sealed: Collection[str]) -> None:
        """Set the instance's valves, whether its constructor did or not: field defaults, below the constructor's
        values, below the stored ones.

        Raises Unfit naming the fields, which tells nothing of those that are `sealed`; the instance then keeps the
        valves it had.
        """
        if self.valves_class is None:
            return
        values = {**self._given_valves, **valves.without_null(stored)}
        self.instance.valves = valves.build(self.valves_class, values, sealed)

    def model_class(self, model: wire.ValvesModel) -> type | None:
        """The class meant, if there is one and it is one of pydantic's."""
        cls = self.valves_class if model == "valves" else self.user_valves_class
        return cls if valves.is_model(cls) else None

    def checked(
        self, model: wire.ValvesModel, values: Mapping[str, Any], sealed: Collection[str], *, whole: bool = False
    ) -> wire.Checked | None:
        """What to store of `values`, and with `whole` what all fields are then; None: there is no such class. Raises
        Unfit."""
        cls = self.model_class(model)
        if cls is None:
            return None
        given = self._given_valves if model == "valves" else {}
        made = valves.checked(cls, values, given, sealed)
        fields = valves.whole(cls, {**given, **valves.without_null(values)}, sealed) if whole else {}
        return wire.Checked([], made, valves.names_of(cls), valves.secrets_of(cls), fields)

    def user_valves(self, stored: Mapping[str, Any], *, needed: bool) -> Any:
        """A UserValves object for one call; stored values that do not fit give the defaults.

        None without such a class, or where a required value is missing; that raises Fault `user_valves` if `needed`.
        """
        cls = self.user_valves_class
        if cls is None:
            return None
        values = valves.without_null(stored)
        try:
            return valves.build(cls, values)
        except valves.Unfit as unfit:
            reason = unfit
        if values:
            print(f"stored user valves are not used: {reason}", file=sys.stderr)
            try:
                return valves.build(cls, {})
            except valves.Unfit as unfit:
                reason = unfit
        if needed:
            raise Fault("user_valves", str(reason), misfits=reason.misfits)
        print(f"this user has no user valves: {reason}", file=sys.stderr)
        return None


def load(describe: wire.Describe) -> Function:
    """Run the source and make the instance; see its `misfits`. Raises whatever the source raises, and Fault."""
    entry = Path(describe.snapshot) / describe.entry
    module = new_module(describe.function, entry)
    _extend_path(entry)
    source = entry.read_bytes()
    finder.install(source)
    code = compile(
        rewriting.tree(source, entry) or source,
        str(entry),
        "exec",
        # Annotations stay text, as in the peer: names that exist only for type checkers are harmless (§1.7).
        flags=LAZY_ANNOTATIONS,
        dont_inherit=True,
    )
    exec(code, module.__dict__)  # noqa: S102  running the function is this process's purpose
    kind, make = find_class(module)
    function = _class_for(kind)(describe.function, module, kind, make())
    try:
        function.configure(describe.valves, describe.sealed)
    except valves.Unfit as unfit:
        function.misfits = unfit.misfits
    return function


def _class_for(kind: str) -> type[Function]:
    if kind != "pipeline":
        return Function
    from fnsync.worker.pipelines.function import PipelineFunction  # memory of the workers that do without

    return PipelineFunction


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
    told = wire.Description(
        kind=function.kind,
        name=_text(getattr(instance, "name", None)),
        handlers=handlers,
        manifold=function.kind == "pipe" and hasattr(instance, "pipes"),
        valves_schema=valves.schema_of(function.valves_class),
        user_valves_schema=valves.schema_of(function.user_valves_class),
        toggle=function.kind == "filter" and bool(getattr(instance, "toggle", False)),
        file_handler=bool(getattr(instance, "file_handler", False)),
        icon=_text(getattr(instance, "icon_url", None)) or _text(getattr(instance, "icon", None)),
        actions=[item for item in actions if isinstance(item, dict)] if isinstance(actions, list) else [],
    )
    return function.described(told)


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


def _class_of(instance: Any, name: str) -> type | None:
    found = getattr(instance, name, None)
    return found if isinstance(found, type) else None


def _fields_set(given: Any) -> dict[str, Any]:
    """What the constructor gave explicitly; a model knows, another object gives all it has."""
    if given is None:
        return {}
    names = getattr(given, "model_fields_set", None)
    if names is not None:
        return {name: getattr(given, name) for name in names}
    return dict(vars(given)) if hasattr(given, "__dict__") else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
