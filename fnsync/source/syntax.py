"""Source text to syntax tree and scopes; every way in which Python refuses a text becomes a SourceError."""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from fnsync.errors import SourceError
from fnsync.model import Problem

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: What a name stands for.
Bound = ast.stmt | ast.expr

#: Python's parser warns about odd escapes through process-wide filters, which must not change under a thread.
_parsing = threading.Lock()


def tree(text: str, path: str) -> ast.Module:
    """Parse a source text. Raises SourceError (code `syntax`) with line, column, and the source line."""
    with _parsing, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text.removeprefix("\ufeff"), filename=path)
        except SyntaxError as exc:
            _refuse(exc, text, path)
        except (RecursionError, MemoryError) as exc:
            message = "nested too deeply for Python to parse"
            raise SourceError(Problem("syntax", message, path=path, hint="split the expression")) from exc
        except (ValueError, OverflowError) as exc:
            raise SourceError(Problem("syntax", f"Python does not parse it: {exc}", path=path)) from exc


def _refuse(exc: SyntaxError, text: str, path: str) -> NoReturn:
    lines = text.splitlines() if exc.text is None else []
    line = exc.lineno if exc.lineno and exc.lineno > 0 else None
    shown = exc.text if exc.text is not None else lines[line - 1] if line and line <= len(lines) else None
    problem = Problem(
        code="syntax",
        message=f"{type(exc).__name__}: {exc.msg}",
        path=path,
        line=line,
        column=exc.offset if exc.offset and exc.offset > 0 else None,
        text=None if shown is None else shown.rstrip("\r\n")[:500],
    )
    raise SourceError(problem) from exc


class Text:
    """The lines of a source text, for cutting out what a node stands for."""

    def __init__(self, text: str) -> None:
        # Python's own idea of a line: form feeds and the like do not end one.
        normal = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        self._lines = [line.encode() for line in normal.split("\n")]

    def says(self, node: ast.stmt | ast.expr, word: bytes) -> bool:
        """Whether a word is on the lines of a node; cheaper than looking through its tree."""
        return any(word in line for line in self._lines[node.lineno - 1 : node.end_lineno])

    def segment(self, node: ast.expr) -> str:
        """The node's source text on one line."""
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        lines = self._lines[first : last + 1]
        if not lines:
            return ""
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        return " ".join(line.decode(errors="replace").strip() for line in lines)


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run in a scope, also inside if, try, with and match, in the order of the text."""
    pending = [iter(body)]
    while pending:
        statement = next(pending[-1], None)
        if statement is None:
            pending.pop()
            continue
        yield statement
        if not isinstance(statement, Function | ast.ClassDef):
            pending.append(blocks(statement))


def blocks(statement: ast.stmt) -> Iterator[ast.stmt]:
    """The statements right inside a statement."""
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        for item in getattr(statement, name, ()):
            if isinstance(item, ast.stmt):
                yield item
            elif isinstance(item, ast.ExceptHandler | ast.match_case):
                yield from item.body


def bindings(body: Iterable[ast.stmt]) -> dict[str, Bound]:
    """Name -> what the scope's last statement for it binds: a class, a function, or an assigned expression.

    Imported names are absent.
    """
    found: dict[str, Bound] = {}
    for statement in statements(body):
        if isinstance(statement, Function | ast.ClassDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            found.update((target.id, statement.value) for target in statement.targets if isinstance(target, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
            found[statement.target.id] = statement.value
    return found


class Scopes:
    """Looks up names in a module and in the classes it defines; cached, and safe with names that go in circles."""

    #: How many names an alias may go through.
    MAX_STEPS = 20

    def __init__(self, module: ast.Module) -> None:
        self.module = bindings(module.body)
        self._members: dict[ast.ClassDef, dict[str, Bound]] = {}

    def members(self, owner: ast.ClassDef) -> dict[str, Bound]:
        """What a class body itself binds."""
        if owner not in self._members:
            self._members[owner] = bindings(owner.body)
        return self._members[owner]

    def lineage(self, owner: ast.ClassDef, within: ast.ClassDef | None = None) -> Sequence[ast.ClassDef]:
        """The class and those of its bases that the file defines, nearest first; `within` is the class around it."""
        found: list[ast.ClassDef] = []
        pending = [owner]
        while pending:
            current = pending.pop()
            if current in found:
                continue
            found.append(current)
            pending.extend(reversed([base for node in current.bases if (base := self._base(node, current, within))]))
        return found

    def inherited(self, owner: ast.ClassDef) -> dict[str, Bound]:
        """What a class and its bases in the file bind; the nearest wins."""
        found: dict[str, Bound] = {}
        for current in reversed(self.lineage(owner)):
            found.update(self.members(current))
        return found

    def resolve(self, node: Bound | None, within: ast.ClassDef | None = None) -> Bound | None:
        """Follow names (`A`, `Outer.A`) to the class, function or value they stand for; None: not in this file.

        With `within`, the names of that class body come before the module's.
        """
        for _ in range(self.MAX_STEPS):
            if isinstance(node, ast.Name):
                member = self.members(within).get(node.id) if within is not None else None
                node = self.module.get(node.id) if member is None or member is node else member
            elif isinstance(node, ast.Attribute):
                outer = self._path(node.value)
                node = self.members(outer).get(node.attr) if outer is not None else None
            else:
                return node
        return None

    def _base(self, node: ast.expr, of: ast.ClassDef, within: ast.ClassDef | None) -> ast.ClassDef | None:
        if isinstance(node, ast.Subscript):
            node = node.value  # a generic base such as Base[int]
        found = self.resolve(node, within)
        if found is of:
            found = self.resolve(node)  # class Valves(Valves), nested: the module's one is meant
        return found if isinstance(found, ast.ClassDef) else None

    def _path(self, node: ast.expr) -> ast.ClassDef | None:
        """The class that `A.B.C` stands for, from the module down."""
        names: list[str] = []
        while isinstance(node, ast.Attribute) and len(names) < self.MAX_STEPS:
            names.append(node.attr)
            node = node.value
        found = self.resolve(node) if isinstance(node, ast.Name) else None
        for name in reversed(names):
            found = self.members(found).get(name) if isinstance(found, ast.ClassDef) else None
        return found if isinstance(found, ast.ClassDef) else None
