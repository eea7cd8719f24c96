"""The import statements of a source file, and where what they name comes from."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeGuard

from fnsync.model import Import, Kind
from fnsync.source.syntax import Function, blocks

Origin = Literal["local", "shared", "standard", "third_party"]

#: Modules by which older functions mean those below open_webui; the same as in `worker.rewriting`.
REWRITTEN = frozenset({"utils", "apps", "main", "config"})
#: Exceptions whose handler makes a failing import harmless.
_CATCHES = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


@dataclass(frozen=True, slots=True)
class Imported:
    """One imported module as written: dots in front for relative ones."""

    module: str
    line: int
    guarded: bool = False
    #: The names taken from it; each may be a module too.
    names: tuple[str, ...] = ()

    @property
    def level(self) -> int:
        return len(self.module) - len(self.module.lstrip("."))

    @property
    def top(self) -> str:
        """The first name of the module, without dots; empty for `from . import x`."""
        return self.module.lstrip(".").partition(".")[0]


def imported(module: ast.Module) -> tuple[Imported, ...]:
    """All imports of a file in the order of their lines, also those inside functions."""
    return tuple(sorted(_imports(module), key=lambda item: item.line))


def classified(found: Iterable[Imported], helpers: frozenset[str], shared: frozenset[str]) -> tuple[Import, ...]:
    """The imports with their origin. `helpers` and `shared` are the names of modules that can be imported."""
    return tuple(Import(item.module, item.line, _origin(item, helpers, shared), item.guarded) for item in found)


def meant(item: Import, kind: Kind | None) -> str:
    """The module that an import loads: of an older form, what lies below open_webui."""
    old = item.origin == "third_party" and item.module.partition(".")[0] in REWRITTEN
    return f"open_webui.{item.module}" if old and kind is not Kind.PIPELINE else item.module


def _origin(item: Imported, helpers: frozenset[str], shared: frozenset[str]) -> Origin:
    if item.top in helpers:
        return "local"
    if item.top in shared:
        return "shared"
    if item.level:
        return "local"
    return "standard" if item.top in sys.stdlib_module_names else "third_party"


def _imports(module: ast.Module) -> Iterator[Imported]:
    pending: list[tuple[ast.stmt, bool]] = [(statement, False) for statement in module.body]
    while pending:
        node, guarded = pending.pop()
        if isinstance(node, ast.Import):
            yield from (Imported(alias.name, node.lineno, guarded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _from(node, guarded)
        else:
            pending.extend((child, guarded or put_off) for child, put_off in _inner(node))


def _inner(node: ast.stmt) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements right inside one, and whether an import there may fail or is put off."""
    is_put_off = isinstance(node, Function)
    body = len(node.body) if _spares_body(node) else 0
    for index, child in enumerate(blocks(node)):
        yield child, is_put_off or index < body  # the body comes first


def _spares_body(node: ast.stmt) -> TypeGuard[ast.If | ast.Try | ast.TryStar | ast.With]:
    if isinstance(node, ast.If):
        return is_type_checking(node.test)
    return spares_import(node)


def spares_import(node: ast.AST) -> TypeGuard[ast.Try | ast.TryStar | ast.With]:
    """Whether it is a statement that catches an import that fails in its body."""
    if isinstance(node, ast.With):
        return any(_suppresses_import(item.context_expr) for item in node.items)
    return isinstance(node, ast.Try | ast.TryStar) and any(_catches(handler.type) for handler in node.handlers)


def _from(node: ast.ImportFrom, guarded: bool) -> Iterator[Imported]:
    dots = "." * node.level
    names = tuple(alias.name for alias in node.names)
    if node.module:
        yield Imported(dots + node.module, node.lineno, guarded, names)
    else:
        yield from (Imported(dots + name, node.lineno, guarded) for name in names)


def is_type_checking(test: ast.expr) -> bool:
    """Whether a condition holds for type checkers alone."""
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _suppresses_import(manager: ast.expr) -> bool:
    """Whether it is `contextlib.suppress(ImportError)`, or the like."""
    if not isinstance(manager, ast.Call):
        return False
    name = manager.func.attr if isinstance(manager.func, ast.Attribute) else getattr(manager.func, "id", "")
    return name == "suppress" and any(map(_catches, manager.args))


def _catches(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(one is None or (isinstance(one, ast.Name) and one.id in _CATCHES) for one in kinds)
