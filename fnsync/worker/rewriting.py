"""Imports of an old form: `from utils…`, `from apps…`, `from main`, `from config` mean what lies below open_webui.

Open WebUI replaces these words wherever they stand in the text. Here the statements alone are changed, and only where
the function has no module of that name: one beside it, a shared one, or one of its environment.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

#: The modules meant; the same as in `source.imports`.
NAMES = frozenset({"utils", "apps", "main", "config"})
_MAY_HAVE = re.compile(rb"\bfrom[ \t]+(?:utils|apps|main|config)\b")
#: Classes of Open WebUI's functions: a file of the Pipelines server has modules of that server by such names.
_CLASSES = frozenset({"Pipe", "Filter", "Action", "Event"})


def tree(source: bytes, entry: Path) -> ast.Module | None:
    """The syntax tree with such imports changed; None: there is nothing to change. Raises SyntaxError.

    For after the function's folders are on `sys.path`.
    """
    if not _MAY_HAVE.search(source):
        return None
    module = ast.parse(source, str(entry))
    if _is_pipeline(module):
        return None
    found = [node for node in ast.walk(module) if isinstance(node, ast.ImportFrom) and _is_old(node, entry)]
    for node in found:
        node.module = f"open_webui.{node.module}"
    return module if found else None


def _is_old(node: ast.ImportFrom, entry: Path) -> bool:
    name = (node.module or "").partition(".")[0]
    return node.level == 0 and name in NAMES and not _is_there(name, entry)


def _is_there(name: str, entry: Path) -> bool:
    """Whether the function can import a module of that name. A source is always called main.py, and means another."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a broken package of that name is one
        return True
    return found is not None and not (found.origin and Path(found.origin) == entry)


def _is_pipeline(module: ast.Module) -> bool:
    names = {node.name for node in module.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    names |= {
        target.id
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return "Pipeline" in names and names.isdisjoint(_CLASSES)
