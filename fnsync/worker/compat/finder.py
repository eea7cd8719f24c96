"""Finds `open_webui` and what lies below it: modules provided here, and stand-ins for all others.

Nothing of it is loaded before a function imports it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

NAME = "open_webui"
#: Where the modules lie, and the package that they are modules of.
_FOLDER = Path(__file__).parent
_PACKAGE = "fnsync.worker.compat"


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """On `sys.meta_path`, in front: whatever is installed under that name is not for functions here."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(NAME) or fullname.partition(".")[0] != NAME:
            return None
        place = _FOLDER.joinpath(*fullname.split("."))
        is_package = place.is_dir()
        if is_package or place.with_suffix(".py").is_file():
            return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)
        from fnsync.worker.compat import absent  # start time

        if not absent.is_importable():
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True, loader_state=absent.AbsentModule)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        if spec.loader_state is not None:
            made: ModuleType = spec.loader_state(spec.name)
            return made
        module = importlib.import_module(f"{_PACKAGE}.{spec.name}")
        # One module under two names: what the machinery sets for the second is put back.
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        from fnsync.worker.compat import absent  # start time

        spec = module.__spec__
        if isinstance(module, absent.AbsentModule) or spec is None:
            return
        module.__spec__ = spec.loader_state
        module.__dict__["__getattr__"] = absent.attribute_of(spec.name)


def install() -> None:
    """From now on functions can import it."""
    sys.meta_path.insert(0, Finder())
