"""User valves in the state: what a user set for a function, as text that somebody else encrypts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fnsync.store.generation import advance
from fnsync.store.opening import Opened

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement


@dataclass(frozen=True, slots=True)
class StoredValves:
    """One user's values for one function."""

    user_id: str
    function: str
    #: Encrypted; the state does not look into it.
    text: str
    #: Epoch seconds; grows with each change, so that it tells one from the next.
    updated_at: int


class UserValves(Opened):
    """The part of the state that holds user valves. They stay when their function is removed, but are for functions of
    the same owner alone: of those of another it is as if there were none."""

    def user_valves(self, user_id: str, function: str, owner: str | None = None) -> str | None:
        """What the user set for the function, which is that owner's own, or nobody's."""
        from fnsync.store import tables  # start time

        query = tables.user_valves.select().where(_key(user_id, function) & _is_of(owner))
        with self._reading() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else str(row.text)

    def set_user_valves(self, user_id: str, function: str, text: str | None, owner: str | None = None) -> None:
        """Keep what the user set for the function of that owner, in place of what is there; None: forget it.

        The user need not be known yet: one whom a chat server names is remembered a moment after their call.
        """
        from sqlalchemy import case  # start time

        from fnsync.store import tables
        from fnsync.store.upserts import upsert

        table = tables.user_valves
        now = int(time.time())
        with self._writing() as connection:
            if text is None:
                connection.execute(table.delete().where(_key(user_id, function) & _is_of(owner)))
            else:
                later = case((table.c.updated_at < now, now), else_=table.c.updated_at + 1)
                row = {"user_id": user_id, "function": function, "text": text, "updated_at": now, "owner": owner}
                upsert(connection, table, row, {"text": text, "updated_at": later, "owner": owner})
            advance(connection)

    def rename_user_valves(self, renamed: Mapping[str, str]) -> None:
        """Follow functions to their new ids (old -> new), all at the same time.

        What a user has under the new id stays; what they had under the old one then goes.
        """
        from fnsync.store import tables  # start time

        table = tables.user_valves
        renamed = {old: new for old, new in renamed.items() if old != new}
        if not renamed:
            return
        with self._writing() as connection:
            moving = connection.execute(table.select().where(table.c.function.in_(renamed))).all()
            if not moving:
                return
            connection.execute(table.delete().where(table.c.function.in_(renamed)))
            staying = connection.execute(table.select().where(table.c.function.in_(set(renamed.values()))))
            taken = {(row.user_id, row.function) for row in staying}
            # Of two functions that became one, the values set last win.
            moved = {
                (row.user_id, renamed[row.function]): {
                    "text": row.text,
                    "updated_at": row.updated_at,
                    "owner": row.owner,
                }
                for row in sorted(moving, key=lambda row: row.updated_at)
            }
            fresh = [
                {"user_id": user_id, "function": function, **values}
                for (user_id, function), values in moved.items()
                if (user_id, function) not in taken
            ]
            if fresh:
                connection.execute(table.insert(), fresh)
            advance(connection)

    def all_user_valves(self) -> list[StoredValves]:
        """Those of all users for all functions."""
        from fnsync.store import tables  # start time

        columns = tables.user_valves.c
        with self._reading() as connection:
            found = connection.execute(tables.user_valves.select().order_by(columns.user_id, columns.function))
            return [_stored(row) for row in found]

    def replace_user_valves(self, rows: Iterable[StoredValves]) -> int:
        """Replace the texts of rows that `all_user_valves` gave, all or none; returns how many it replaced.

        A row that was changed or removed since then is left as it is now: it is not counted, and the caller may read
        again.
        """
        from fnsync.store import tables  # start time

        table = tables.user_valves
        replaced = 0
        with self._writing() as connection:
            for row in rows:
                as_read = _key(row.user_id, row.function) & (table.c.updated_at == row.updated_at)
                replaced += connection.execute(table.update().where(as_read).values(text=row.text)).rowcount
            if replaced:
                advance(connection)
        return replaced


def _key(user_id: str, function: str) -> ColumnElement[bool]:
    from fnsync.store import tables  # start time

    return (tables.user_valves.c.user_id == user_id) & (tables.user_valves.c.function == function)


def _is_of(owner: str | None) -> ColumnElement[bool]:
    from fnsync.store import tables  # start time

    return tables.user_valves.c.owner.is_not_distinct_from(owner)


def _stored(row: Any) -> StoredValves:
    return StoredValves(row.user_id, row.function, row.text, row.updated_at)
