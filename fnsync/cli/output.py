"""How commands print: data to stdout, what went wrong to stderr, and no control characters of others."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from fnsync.errors import FnsyncError

if TYPE_CHECKING:
    from rich.console import Console

#: What a terminal would act on: C0 without tab and line feed, DEL, C1.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

#: Columns of output that no terminal shows.
FILE_WIDTH = 1000


def console(*, stderr: bool = False) -> Console:
    """A console that leaves texts as they are: no markup, no highlighting, no emoji codes, no line breaks."""
    from rich.console import Console  # start time

    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # What goes into a file or a pipe is never cut to fit.
    width = None if is_terminal else FILE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False, soft_wrap=True)


def printable(text: str) -> str:
    """`text` without what a terminal would act on, so that a function's output cannot."""
    return _CONTROL.sub("�", text.replace("\r\n", "\n"))


def print_json(data: Any, *, one_line: bool = False) -> None:
    """Print one JSON value; on one line of its own where many follow each other."""
    text = json.dumps(data, ensure_ascii=False, indent=None if one_line else 2)
    sys.stdout.write(text.encode(errors="replace").decode() + "\n")
    if one_line:
        sys.stdout.flush()


def print_error(error: FnsyncError) -> None:
    """Print what went wrong and, below it, the way out."""
    out = console(stderr=True)
    for line in printable(error.message).splitlines() or [error.code]:
        out.print(line, style="red")
    if error.hint:
        out.print(printable(error.hint), style="dim")
