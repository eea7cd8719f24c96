"""Functions of sources are changed where they come from, not here."""

from __future__ import annotations

from collections.abc import Callable

from fnsync.errors import ReadOnlySource
from fnsync.model import LOCAL, Unit

#: Raises ReadOnlySource for a function that no edit may change.
Check = Callable[[Unit], None]


class ReadOnly:
    """Knows where functions come from."""

    def __init__(self, url_of: Callable[[str], str | None]) -> None:
        """`url_of` gives the address of a source, without what is secret in it."""
        self._url_of = url_of

    def check(self, unit: Unit) -> None:
        """Raise ReadOnlySource for a function of a source."""
        if unit.source == LOCAL:
            return
        url = self._url_of(unit.source)
        at = f" at {url}" if url else ""
        raise ReadOnlySource(
            f"{unit.id} is of the source {unit.source}{at}, which is mirrored read-only",
            hint=f"change {unit.path.partition(':')[2]} there, or copy the functions: fnsync import git+URL",
        )


def unchecked(unit: Unit) -> None:
    """Where there are no sources."""
