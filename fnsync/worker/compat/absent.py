"""What is not provided of `open_webui`: it can be imported, and raises one clear error where it is used.

A name or module that is imported where an ImportError is caught is not there: the author knows what to do without it,
and does it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import opcode
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any, NoReturn

_IMPORT_FROM = opcode.opmap["IMPORT_FROM"]
_CATCHES = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


class NotProvided(AttributeError, NotImplementedError):
    """A name of `open_webui` that this server has nothing for. An AttributeError, so that `hasattr` says no."""

    def __init__(self, symbol: str) -> None:
        super().__init__(
            f"{symbol} is not provided by fnsync: do without it, or import it within `try: … except ImportError:` and "
            "say there what is to be done instead; `fnsync check --compat` tells what is provided"
        )
        self.symbol = symbol


class Absent:
    """Stands for a name; any use of it raises NotProvided."""

    def __init__(self, symbol: str) -> None:
        object.__setattr__(self, "_symbol", symbol)

    def _raise(self, *_: Any, **__: Any) -> NoReturn:
        raise NotProvided(object.__getattribute__(self, "_symbol"))

    def __getattr__(self, name: str) -> NoReturn:
        symbol = object.__getattribute__(self, "_symbol")
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # what Python and libraries look for by themselves
        raise NotProvided(f"{symbol}.{name}")

    def __repr__(self) -> str:
        return f"<{object.__getattribute__(self, '_symbol')}, not provided by fnsync>"

    def __setattr__(self, name: str, value: Any) -> None:
        self._raise()

    __call__ = __getitem__ = __setitem__ = __iter__ = __await__ = __aiter__ = __len__ = __contains__ = _raise
    __enter__ = __exit__ = __aenter__ = __aexit__ = __mro_entries__ = __instancecheck__ = __subclasscheck__ = _raise
    __or__ = __ror__ = __add__ = __radd__ = __lt__ = __gt__ = __int__ = __float__ = _raise
    __fspath__ = __truediv__ = __rtruediv__ = __get_pydantic_core_schema__ = _raise


class AbsentModule(ModuleType):
    """A module below open_webui of which nothing is provided."""

    __path__: list[str] = []

    def __init__(self, name: str) -> None:
        super().__init__(name, f"{name} is not provided by fnsync.")
        self.__dict__["__getattr__"] = attribute_of(name)


def attribute_of(module: str) -> Callable[[str], Any]:
    """A `__getattr__` for a module of that name: what becomes of names that are not in it."""

    def __getattr__(name: str) -> Any:
        symbol = f"{module}.{name}"
        if name.startswith("__"):
            raise AttributeError(f"{symbol} is not there")
        frame = sys._getframe(1)
        if not _is_importing(frame):
            raise NotProvided(symbol)
        if is_guarded(frame):
            raise NotProvided(symbol)  # the import statement makes an ImportError of it
        return Absent(symbol)

    return __getattr__


def _is_importing(frame: FrameType) -> bool:
    """Whether the frame is in the middle of `from … import name`."""
    code, at = frame.f_code.co_code, frame.f_lasti
    return 0 <= at < len(code) and code[at] == _IMPORT_FROM


def is_importable() -> bool:
    """Whether a module below open_webui that is not provided is there as a stand-in for the import statement that is
    being carried out: not within a guard, and not for `from … import name`, whose name is then no module."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "_handle_fromlist":
            return False
        if not code.co_filename.startswith("<frozen importlib") and code.co_filename not in _MACHINERY:
            return not is_guarded(frame)
        frame = frame.f_back
    return True


#: What stands between an import statement, or `import_module`, and the question.
_MACHINERY = (__file__, __file__.replace("absent", "finder"), importlib.__file__)


def is_guarded(frame: FrameType) -> bool:
    """Whether the line that a frame is at lies in a `try` that catches ImportError."""
    return any(first <= frame.f_lineno <= last for first, last in _guarded_lines(frame.f_code.co_filename))


@functools.lru_cache(maxsize=64)
def _guarded_lines(file: str) -> tuple[tuple[int, int], ...]:
    """First and last lines of the bodies of such statements; only read where something absent is imported."""
    try:
        with open(file, "rb") as source:
            module = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):  # no file: code made at run time
        return ()
    return tuple(
        (node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno)
        for node in ast.walk(module)
        if isinstance(node, ast.Try | ast.TryStar | ast.With) and _spares_import(node)
    )


def _spares_import(node: ast.Try | ast.TryStar | ast.With) -> bool:
    """The same as in `source.imports`, for what `fnsync check` tells."""
    if isinstance(node, ast.With):
        return any(_suppresses_import(item.context_expr) for item in node.items)
    return any(_catches(handler.type) for handler in node.handlers)


def _suppresses_import(manager: ast.expr) -> bool:
    if not isinstance(manager, ast.Call):
        return False
    name = manager.func.attr if isinstance(manager.func, ast.Attribute) else getattr(manager.func, "id", "")
    return name == "suppress" and any(map(_catches, manager.args))


def _catches(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(one is None or (isinstance(one, ast.Name) and one.id in _CATCHES) for one in kinds)
