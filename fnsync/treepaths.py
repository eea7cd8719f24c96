"""How a source's functions are called outside of its tree: ids with its prefix, paths as `NAME:PATH`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fnsync.model import FunctionId, Problem, Tree, Unit

#: What the functions folder is called among sources.
LOCAL = "local"


def outer_path(tree: Tree, path: str) -> str:
    """A path of the tree as everybody else says it."""
    return path if tree.source == LOCAL else f"{tree.source}:{path}"


def outer(tree: Tree, unit: Unit) -> Unit:
    """A unit as its tree's catalog has it, as everybody else sees it."""
    if tree.source == LOCAL:
        return unit
    id = FunctionId(tree.prefix + unit.id)
    return _mapped(unit, id, tree.source, lambda path: f"{tree.source}:{path}")


def inner(tree: Tree, unit: Unit) -> Unit:
    """The opposite of `outer`."""
    if tree.source == LOCAL:
        return unit
    start = f"{tree.source}:"
    return _mapped(unit, FunctionId(unit.id.removeprefix(tree.prefix)), LOCAL, lambda path: path.removeprefix(start))


def outer_problem(tree: Tree, problem: Problem) -> Problem:
    """A problem with its path as everybody else says it."""
    return problem if problem.path is None else replace(problem, path=outer_path(tree, problem.path))


def _mapped(unit: Unit, id: FunctionId, source: str, path_of: Callable[[str], str]) -> Unit:
    problem = unit.problem
    if problem is not None and problem.path is not None:
        problem = replace(problem, path=path_of(problem.path))
    return replace(
        unit,
        id=id,
        path=path_of(unit.path),
        parts=tuple(replace(part, path=path_of(part.path)) for part in unit.parts),
        settings_path=None if unit.settings_path is None else path_of(unit.settings_path),
        problem=problem,
        stamps={path_of(path): stamp for path, stamp in unit.stamps.items()},
        source=source,
    )
