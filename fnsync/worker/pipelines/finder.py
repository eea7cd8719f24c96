"""The modules that a Pipelines server has beside its pipelines, for sources that import them by its names.

Nothing is imported before a source asks, and a module of the function's own comes before one of these.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

_FOLDER = Path(__file__).parent / "modules"
#: Module -> its file; None: a package that only holds others.
MODULES = {
    "blueprints": None,
    "blueprints.function_calling_blueprint": "function_calling_blueprint.py",
    "schemas": "schemas.py",
    "utils": None,
    "utils.pipelines": None,
    "utils.pipelines.main": "main.py",
}

_CLASS = re.compile(rb"^class[ \t]+Pipeline\b", re.MULTILINE)


def install(source: bytes) -> None:
    """Make the modules importable in this process, if the source looks like a pipeline's."""
    if _CLASS.search(source):
        sys.meta_path.append(Finder())


class Finder(MetaPathFinder):
    """Finds what no other finder has found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        file = MODULES[fullname]
        if file is None:
            return ModuleSpec(fullname, None, is_package=True)
        return spec_from_file_location(fullname, _FOLDER / file)
