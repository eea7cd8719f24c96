"""What is provided of `open_webui`: read from the sources of the modules that workers load, without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fnsync.source.syntax import Function, bindings, statements

#: The modules that workers load under this name.
FOLDER = Path(__file__).parents[1] / "worker" / "compat" / "open_webui"
NAME = "open_webui"


@dataclass(frozen=True, slots=True)
class Module:
    """One module: its public names, and of those that are objects with methods, these."""

    names: frozenset[str]
    methods: Mapping[str, frozenset[str]]


@cache
def modules() -> Mapping[str, Module]:
    """All that are provided, by name."""
    return {_name(file): _read(file) for file in sorted(FOLDER.rglob("*.py"))}


def is_provided(symbol: str) -> bool:
    """Whether a module, a name in one, or a method of such a name is provided."""
    known = modules()
    if symbol in known:
        return True
    module, _, name = symbol.rpartition(".")
    if module in known:
        return name in known[module].names
    module, _, owner = module.rpartition(".")
    if module not in known or owner not in known[module].names:
        return False
    methods = known[module].methods.get(owner)
    return methods is None or name in methods


def has_methods(symbol: str) -> bool:
    """Whether it is an object or a class that has nothing but its own methods."""
    module, _, name = symbol.rpartition(".")
    return module in modules() and name in modules()[module].methods


def _name(file: Path) -> str:
    parts = file.relative_to(FOLDER.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read(file: Path) -> Module:
    tree = ast.parse(file.read_bytes(), str(file))
    bound = bindings(tree.body)
    listed = bound.get("__all__")
    names = set(_imported(tree)) | set(bound) if listed is None else set(ast.literal_eval(_expression(listed)))
    classes = {name: _methods(node) for name, node in bound.items() if isinstance(node, ast.ClassDef)}
    # Those without a base have methods of their own alone; models have pydantic's.
    methods = {name: classes[name] for name, node in bound.items() if isinstance(node, ast.ClassDef) and not node.bases}
    for name, node in bound.items():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes:
            methods[name] = classes[node.func.id]
    return Module(frozenset(name for name in names if not name.startswith("_")), methods)


def _expression(node: ast.stmt | ast.expr) -> ast.expr:
    assert isinstance(node, ast.expr), "`__all__` is assigned"
    return node


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names that a module takes from another one of these."""
    for node in statements(tree.body):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"fnsync.worker.compat.{NAME}"):
            yield from (alias.asname or alias.name for alias in node.names)


def _methods(owner: ast.ClassDef) -> frozenset[str]:
    found = (node.name for node in statements(owner.body) if isinstance(node, Function))
    return frozenset(name for name in found if not name.startswith("_"))
