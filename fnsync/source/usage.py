"""What a function's files use of `open_webui`, as far as their syntax trees tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from fnsync.source.imports import REWRITTEN, is_type_checking, spares_import
from fnsync.source.provided import NAME, has_methods, is_provided, modules


@dataclass(frozen=True, slots=True)
class Use:
    """One symbol where it is used first."""

    symbol: str
    line: int
    provided: bool
    #: Where an ImportError is caught: if the symbol is not provided, the file does something else.
    guarded: bool


def uses(tree: ast.Module, rewritten: frozenset[str] = frozenset()) -> tuple[Use, ...]:
    """The symbols that a file imports, and what it takes from them, by name.

    `rewritten`: the old names of modules (`imports.REWRITTEN`) that mean those below open_webui in this file.
    """
    seen = _Seen(rewritten)
    for statement, guarded in _executed(tree, False):
        seen.take(statement, guarded)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            seen.take_attribute(node)
    return tuple(sorted(seen.found.values(), key=lambda use: (use.symbol, use.line)))


def _executed(node: ast.AST, guarded: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """The import statements, but those for type checkers, and whether each may fail."""
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        if name == "body" and isinstance(node, ast.If) and is_type_checking(node.test):
            continue
        inner = guarded or (name == "body" and spares_import(node))
        for child in getattr(node, name, None) or ():
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child, inner
            elif isinstance(child, ast.AST):
                yield from _executed(child, inner)


class _Seen:
    def __init__(self, rewritten: frozenset[str]) -> None:
        self._rewritten = rewritten
        self.found: dict[str, Use] = {}
        #: Local name -> the symbol that it was imported from, and whether that import is guarded.
        self._names: dict[str, tuple[str, bool]] = {}

    def take(self, node: ast.stmt, guarded: bool) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _is_ours(alias.name):
                    self._add(alias.name, node.lineno, guarded)
                    bound = (alias.asname, alias.name) if alias.asname else (NAME, NAME)
                    self._names[bound[0]] = (bound[1], guarded)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            module = self._meant(node.module)
            if not _is_ours(module):
                return
            for alias in node.names:
                symbol = module if alias.name == "*" else f"{module}.{alias.name}"
                self._add(symbol, node.lineno, guarded)
                self._names[alias.asname or alias.name] = (symbol, guarded)

    def take_attribute(self, node: ast.Attribute) -> None:
        """`Users.get_user_by_id`, `env.VERSION`, `open_webui.env.VERSION`: what of a provided symbol is used."""
        names: list[str] = []
        at: ast.expr = node
        while isinstance(at, ast.Attribute):
            names.append(at.attr)
            at = at.value
        if not isinstance(at, ast.Name) or at.id not in self._names:
            return
        symbol, guarded = self._names[at.id]
        for name in reversed(names):
            is_module = symbol in modules()
            if not is_module and not has_methods(symbol):
                return  # what values have is no matter of ours; what is not provided is told already
            symbol = f"{symbol}.{name}"
            if symbol not in modules():
                self._add(symbol, node.lineno, guarded)
            if not is_module:
                return

    def _meant(self, module: str) -> str:
        return f"{NAME}.{module}" if module.partition(".")[0] in self._rewritten else module

    def _add(self, symbol: str, line: int, guarded: bool) -> None:
        known = self.found.get(symbol)
        if known is None or line < known.line:
            self.found[symbol] = Use(symbol, line, is_provided(symbol), guarded)


def _is_ours(module: str) -> bool:
    return module == NAME or module.startswith(NAME + ".")


def old_names(own: frozenset[str]) -> frozenset[str]:
    """Those of the old names by which a function has no module of its own."""
    return REWRITTEN - own
