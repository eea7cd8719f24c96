"""Whether what a call gives is awaited later on, as its source tells.

For answers that are None, which cannot be awaited: `gather(Chats.get_chat_by_id(id), …)`, `found = Users.get_…(id)` and
then `await found`, a helper that awaits what it is given.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from itertools import islice
from types import CodeType, FrameType

#: What takes something to be awaited.
_TAKE = frozenset({
    "gather", "create_task", "ensure_future", "wait_for", "shield", "wait", "as_completed",
    "run", "run_until_complete", "run_coroutine_threadsafe", "start_soon",
})  # fmt: skip
#: Names and helpers that are followed from one to the next.
_MOST_STEPS = 5
#: Expressions that hand on what is in them.
_AROUND = (ast.Starred, ast.List, ast.Tuple, ast.Set, ast.ListComp, ast.GeneratorExp, ast.IfExp)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_awaited_later(frame: FrameType) -> bool:
    """Whether what the call that the frame is in gives comes to be awaited, in its own file."""
    return _is_awaited_later(frame.f_code, frame.f_lasti)


@functools.lru_cache(maxsize=1024)
def _is_awaited_later(code: CodeType, at: int) -> bool:
    _, end_line, _, end_column = next(islice(code.co_positions(), at // 2, None), (None,) * 4)
    try:
        with open(code.co_filename, "rb") as source:
            module = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):  # no file: code made at run time
        return False
    file = _File(module)
    ends = (end_line, end_column)
    return any(file.is_awaited(call) for call in file.calls if (call.end_lineno, call.end_col_offset) == ends)


class _File:
    def __init__(self, module: ast.Module) -> None:
        self._parents = {child: node for node in ast.walk(module) for child in ast.iter_child_nodes(node)}
        nodes = [module, *self._parents]
        self.calls = [node for node in nodes if isinstance(node, ast.Call)]
        self._functions = {node.name: node for node in nodes if isinstance(node, _Function)}

    def is_awaited(self, node: ast.AST, steps: int = _MOST_STEPS) -> bool:
        """Whether the value of an expression comes to be awaited."""
        parent = self._parents.get(node)
        if isinstance(parent, ast.keyword):
            node, parent = parent, self._parents.get(parent)
        match parent:
            case ast.Await():
                return True
            case ast.Call():
                return node is not parent.func and steps > 0 and self._is_taken(parent, node, steps - 1)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                return steps > 0 and self._is_name_awaited(parent, name, steps - 1)
            case ast.Return() if steps > 0 and isinstance(function := self._scope(parent), ast.FunctionDef):
                return any(self.is_awaited(call, steps - 1) for call in self.calls if _name(call) == function.name)
            case (
                ast.Starred() | ast.List() | ast.Tuple() | ast.Set() | ast.ListComp() | ast.GeneratorExp() | ast.IfExp()
            ):
                return self.is_awaited(parent, steps)
        return False

    def _is_taken(self, call: ast.Call, given: ast.AST, steps: int) -> bool:
        """Whether what is called awaits what it is given."""
        name = _name(call)
        if name in _TAKE:
            return True
        if name == "append" and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            return self._is_name_awaited(call, call.func.value.id, steps)
        function = self._functions.get(name)
        parameter = None if function is None else _parameter(function, call, given)
        return function is not None and parameter is not None and self._is_used(function, parameter, steps)

    def _is_name_awaited(self, node: ast.AST, name: str, steps: int) -> bool:
        scope = self._scope(node)
        return scope is not None and self._is_used(scope, name, steps, after=_place(node))

    def _is_used(self, scope: ast.AST, name: str, steps: int, after: tuple[int, int] = (0, 0)) -> bool:
        """Whether a name is awaited before it is held against None."""
        for use in sorted((use for use in _uses(scope, name) if _place(use) > after), key=_place):
            if self._is_test(use):
                return False
            if self.is_awaited(use, steps):
                return True
        return False

    def _is_test(self, use: ast.Name) -> bool:
        match self._parents.get(use):
            case ast.Compare(comparators=[ast.Constant(value=None)]) | ast.UnaryOp(op=ast.Not()) | ast.BoolOp():
                return True
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                return test is use
        return False

    def _scope(self, node: ast.AST) -> ast.AST | None:
        at: ast.AST | None = node
        while at is not None and not isinstance(at, _Function | ast.Module):
            at = self._parents.get(at)
        return at


def _uses(scope: ast.AST, name: str) -> Iterator[ast.Name]:
    for node in ast.walk(scope):
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
            yield node


def _place(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def _name(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _parameter(function: _Function, call: ast.Call, given: ast.AST) -> str | None:
    """The parameter that gets an argument."""
    if isinstance(given, ast.keyword):
        return given.arg
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    if isinstance(call.func, ast.Attribute) and names[:1] in (["self"], ["cls"]):
        del names[0]
    place = next((place for place, argument in enumerate(call.args) if argument is given), len(names))
    return names[place] if place < len(names) else None
