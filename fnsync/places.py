"""Which file belongs to which function, as far as paths alone tell; POSIX, relative to the functions folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from fnsync.model import LOCAL

#: The source of a function that is a folder.
MAIN = "main.py"

#: Between the name of a source and a path in its tree.
_BETWEEN = ":"

#: Excludes files, in any folder.
IGNORE_FILE = ".fnsyncignore"

#: Hidden; Python's caches; editors' swap, backup and temporary files; what git and patch leave behind.
_NEVER = re.compile(
    r"""\..* | __pycache__ | .*\.py[co]
    | .*~ | \#.*\# | .*\.sw[a-px] | 4913 | .*\.tmp | .*\.bak | .*___jb_(tmp|old)___ | .*\.orig | .*\.rej""",
    re.VERBOSE | re.DOTALL,
)


def is_noise(name: str) -> bool:
    """Whether a file or folder of that name never counts."""
    return _NEVER.fullmatch(name) is not None


def is_source(path: str, is_function_folder: Callable[[str], bool]) -> bool:
    """Whether a file is the source of a function, its id aside.

    What lies in a folder with a `main.py` belongs to that function; the outermost such folder counts. What
    begins with `_`, or lies in a folder that does, is shared.
    """
    folder, _, name = path.rpartition("/")
    if not name.endswith(".py") or name.startswith("_"):
        return False
    for around in enclosing(path):
        if around.rpartition("/")[2].startswith("_"):
            return False
        if is_function_folder(around):
            return around == folder and name == MAIN
    return True


def enclosing(path: str) -> Iterable[str]:
    """The folders a path lies in, from the top down, without the root."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def own_folder(source: str) -> str | None:
    """The folder that belongs to a function as a whole; None: its source is a file among others."""
    folder, _, name = source.rpartition("/")
    return folder if folder and name == MAIN else None


def stem(path: str) -> str:
    """What a source is called: the file's stem, or the folder's name for a `main.py`."""
    folder, _, name = path.rpartition("/")
    return folder.rpartition("/")[2] if name == MAIN and folder else name.removesuffix(".py")


def settings_of(source: str) -> str:
    """The settings file of a source."""
    return source.removesuffix(".py") + ".yaml"


def whereabouts(source: str) -> list[str]:
    """The files and folders in which all own files of a function lie."""
    folder = own_folder(source)
    return [folder] if folder is not None else [source, settings_of(source)]


def owners(path: str) -> Iterator[str]:
    """Every source to whose function a file may belong: as its source, its settings file, or a file beside it.

    Which of them there are, only a listing tells.
    """
    stem, dot, suffix = path.rpartition(".")
    if dot and suffix in ("py", "yaml"):
        yield stem + ".py"
    for folder in enclosing(path):
        beside = path[len(folder) + 1 :]
        if beside not in (MAIN, settings_of(MAIN)) and not any(map(is_noise, beside.split("/"))):
            yield f"{folder}/{MAIN}"


# ---- sources (git) ---------------------------------------------------------------------------------------


def outside(source: str, path: str) -> str:
    """A path from a source's tree as it is elsewhere; local ones stay."""
    return path if source == LOCAL else f"{source}{_BETWEEN}{path}"


def source_of(path: str) -> str:
    """The source that a path is in, or `local`."""
    source, between, _ = path.partition("/")[0].partition(_BETWEEN)
    return source if between else LOCAL


def inside(path: str) -> str:
    """A path as one from the root of its functions folder or tree."""
    return path if source_of(path) == LOCAL else path.partition(_BETWEEN)[2]
