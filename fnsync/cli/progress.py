"""Shows on a terminal how far the server is with something that takes long."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fnsync.cli.output import console, printable
from fnsync.errors import FnsyncError

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
