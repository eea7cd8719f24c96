"""What a source file's syntax tree tells of the function in it; nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from fnsync.model import CLASS_KINDS, Handler, Import, Inspection, Kind, Problem, ValvesField
from fnsync.source import imports, syntax, valves
from fnsync.source.syntax import Bound, Function, Scopes, Text, statements

#: Methods that callers or the worker reach.
HANDLERS = frozenset(
    {
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
    }
)


def inspect(text: str, path: str, *, helpers: frozenset[str], shared: frozenset[str]) -> Inspection:
    """Inspect a source text; `path` is for messages, `helpers` and `shared` name modules it can import.

    Raises SourceError (code `syntax`) for what Python does not parse.
    """
    module = syntax.tree(text, path)
    found = imports.classified(imports.imported(module), helpers, shared)
    return inspect_tree(module, text, found)


def inspect_tree(module: ast.Module, text: str, imported: tuple[Import, ...]) -> Inspection:
    """As `inspect`, for a text that is parsed already."""
    scopes = Scopes(module)
    kind, definition, owner = _function_class(scopes)
    source = Text(text)
    return Inspection(
        kind=kind,
        class_line=None if definition is None else definition.lineno,
        classes=tuple(item.name for item in statements(module.body) if isinstance(item, ast.ClassDef)),
        handlers=() if owner is None else tuple(_handlers(owner, scopes, source)),
        valves=None if owner is None else _valves("Valves", owner, kind, scopes, source),
        user_valves=None if owner is None else _valves("UserValves", owner, kind, scopes, source),
        imports=imported,
    )


def no_class(inspection: Inspection, path: str) -> Problem:
    """The problem of a file that defines none of the classes."""
    found = ", ".join(inspection.classes[:10]) or "no class"
    if len(inspection.classes) > 10:
        found += f" and {len(inspection.classes) - 10} more"
    *names, last = CLASS_KINDS
    return Problem(
        code="no_class",
        message=f"the file defines no {', '.join(names)} or {last}; found: {found}",
        path=path,
        hint="rename the class (imported ones do not count), or start the file's name with _ if it is a shared module",
    )


def _function_class(scopes: Scopes) -> tuple[Kind | None, Bound | None, ast.ClassDef | None]:
    """Return the kind, what defines it, and the class, which is None for a factory nobody can see through."""
    for name, kind in CLASS_KINDS.items():
        bound = scopes.module.get(name)
        target = scopes.resolve(bound)
        if isinstance(target, ast.ClassDef):
            return kind, target, target
        if isinstance(target, Function):
            return kind, target, _made_by(target, scopes)
    return None, None, None


def _made_by(factory: Function, scopes: Scopes) -> ast.ClassDef | None:
    """The class of the file whose instance a factory function returns."""
    for statement in statements(factory.body):
        if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Call):
            made = scopes.resolve(statement.value.func)
            if isinstance(made, ast.ClassDef):
                return made
    return None


def _handlers(owner: ast.ClassDef, scopes: Scopes, text: Text) -> Iterator[Handler]:
    for name, bound in scopes.inherited(owner).items():
        if name in HANDLERS:
            method = scopes.resolve(bound, owner)
            if isinstance(method, Function | ast.Lambda):
                yield _handler(name, method, text)


def _handler(name: str, method: Function | ast.Lambda, text: Text) -> Handler:
    arguments = method.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if not _is_static(method):
        positional = positional[1:]
    return Handler(
        name=name,
        line=method.lineno,
        is_async=isinstance(method, ast.AsyncFunctionDef),
        is_generator=text.says(method, b"yield") and _yields(method),
        parameters=(*positional, *(argument.arg for argument in arguments.kwonlyargs)),
        var_keyword=arguments.kwarg is not None,
    )


def _is_static(method: Function | ast.Lambda) -> bool:
    decorators = [] if isinstance(method, ast.Lambda) else method.decorator_list
    return any(isinstance(item, ast.Name) and item.id == "staticmethod" for item in decorators)


def _yields(method: Function | ast.Lambda) -> bool:
    """Whether the method itself has a yield; those of functions inside it do not count."""
    pending: list[ast.AST] = [method.body] if isinstance(method, ast.Lambda) else list(method.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(node))
    return False


def _valves(
    name: str, owner: ast.ClassDef, kind: Kind | None, scopes: Scopes, text: Text
) -> tuple[ValvesField, ...] | None:
    """The fields of the nested class `name`, own, inherited or assigned; None if there is none."""
    for around in scopes.lineage(owner):
        found = scopes.resolve(scopes.members(around).get(name), around)
        if isinstance(found, ast.ClassDef):
            return valves.fields(found, around, scopes, text)
    if kind is Kind.PIPELINE and name == "Valves":
        # The Pipelines server takes the class of whatever self.valves holds.
        made = _assigned_valves(owner, scopes)
        return None if made is None else valves.fields(made, None, scopes, text)
    return None


def _assigned_valves(owner: ast.ClassDef, scopes: Scopes) -> ast.ClassDef | None:
    """The class in `self.valves = Class(...)` of the constructor."""
    init = scopes.resolve(scopes.inherited(owner).get("__init__"), owner)
    for statement in statements(init.body) if isinstance(init, Function) else ():
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            names = [target.attr for target in statement.targets if isinstance(target, ast.Attribute)]
            made = scopes.resolve(statement.value.func) if "valves" in names else None
            if isinstance(made, ast.ClassDef):
                return made
    return None
