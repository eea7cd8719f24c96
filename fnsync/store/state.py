"""State: what belongs to users and not to reviewers. Unlike the index it cannot be rebuilt from the files.

A SQLite file whose schema is at head is opened without SQLAlchemy, whose import would be the longest part of
a start; the first question loads it. So neither this module nor those of the subjects import it at the top.
"""

from __future__ import annotations

from fnsync.store.notes import Notes
from fnsync.store.opening import HEAD
from fnsync.store.tokens import Token, Tokens, digest
from fnsync.store.users import ADMIN, Account, Users
from fnsync.store.uservalves import StoredValves, UserValves

__all__ = ["ADMIN", "HEAD", "Account", "State", "StoredValves", "Token", "digest"]


class State(Users, Tokens, UserValves, Notes):
    """Users, tokens, user valves and notes; safe from any thread and beside other processes.

    One module for each subject; `Opened`, below them all, has the database and the generation. All methods are
    blocking. Errors are StoreError, besides those that a method names.
    """
