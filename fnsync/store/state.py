"""State: what belongs to users and not to reviewers. Unlike the index it cannot be rebuilt from the files.

A SQLite file whose schema is at head is opened without SQLAlchemy, whose import would be the longest part of
a start; the first question about users or tokens loads it. So nothing here, nor in the subjects' modules, imports
it at the top.
"""

from __future__ import annotations

from fnsync.store.opening import HEAD
from fnsync.store.tokens import Token, Tokens, digest
from fnsync.store.users import ADMIN, Users

__all__ = ["ADMIN", "HEAD", "State", "Token", "digest"]


class State(Users, Tokens):
    """Users and tokens; safe from any thread and beside other processes. Errors are StoreError.

    One module for each subject; `Opened`, below them, has the database and the generation.
    """
