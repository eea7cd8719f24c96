"""Shows on a terminal how far something is that takes long."""

from __future__ import annotations

import json as jsonlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fnsync.cli.output import console, printable
from fnsync.errors import FnsyncError

if TYPE_CHECKING:
    from fnsync.cli.client import Client

#: Hears the step, how many are done, and of how many.
Tell = Callable[[str, int, int], None]
#: How often the server is asked, in seconds.
LOOK_S = 0.3


@contextmanager
def following(look: Callable[[], str | None], what: str) -> Iterator[None]:
    """For the time of the block, show `what` and what `look` tells beside it; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    with console(stderr=True).status(printable(what)) as shown:

        def watch() -> None:
            while not done.wait(LOOK_S):
                try:
                    told = look()
                except FnsyncError:
                    return  # the block itself tells what is wrong
                shown.update(printable(f"{what}: {told}" if told else what))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(LOOK_S * 4)


@contextmanager
def stepping() -> Iterator[Tell]:
    """A bar for what is told in the block, on a terminal; nothing elsewhere."""
    out = console(stderr=True)
    if not out.is_terminal:
        yield lambda step, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # start time

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=out, transient=True) as progress:
        task = progress.add_task("starting", total=None)
        yield lambda step, done, total: progress.update(task, description=step, completed=done, total=total or None)


def posted(client: Client, path: str, body: Any, last: str, tell: Tell) -> dict[str, Any]:
    """Have the server do something that it tells the steps of; returns what came of it, which has the key `last`.

    Raises FnsyncError with what it refuses.
    """
    with client.stream("POST", path, body=body, progress=True) as lines:
        for line in filter(str.strip, lines):
            told = jsonlib.loads(line)
            if "step" in told:
                tell(told["step"], told["done"], told["total"])
            elif last in told:
                return dict(told)
            else:
                raise client.failure(told.get("status", 500), line)
    raise FnsyncError("the server did not say what became of it", hint="see its log, and `git log`")
