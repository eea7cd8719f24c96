"""Notes in the state: single texts by key, for what has to be known at the next start and is in no file."""

from __future__ import annotations

from fnsync.store.opening import Opened


class Notes(Opened):
    """The part of the state that holds notes. They do not change `generation`."""

    def note(self, key: str) -> str | None:
        """The text under that key."""
        from fnsync.store import tables  # start time

        with self._reading() as connection:
            row = connection.execute(tables.notes.select().where(tables.notes.c.key == key)).one_or_none()
            return None if row is None else str(row.value)

    def set_note(self, key: str, value: str | None) -> None:
        """Keep a text under that key; None: forget it."""
        from fnsync.store import tables  # start time
        from fnsync.store.upserts import upsert

        with self._writing() as connection:
            if value is None:
                connection.execute(tables.notes.delete().where(tables.notes.c.key == key))
            else:
                upsert(connection, tables.notes, {"key": key, "value": value}, {"value": value})
