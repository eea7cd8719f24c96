"""What the reconciler and the classes that work for it share."""

from __future__ import annotations

from dataclasses import dataclass

from fnsync.changes import LiveChanges
from fnsync.indexing import IndexWriter
from fnsync.plan import Policy
from fnsync.provenances import Provenances
from fnsync.registry import Registry
from fnsync.runtime.executor import Executor
from fnsync.source.mounts import Mounts
from fnsync.source.snapshots import Snapshots
from fnsync.standings import Standings


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each."""

    mounts: Mounts
    snapshots: Snapshots
    registry: Registry
    executor: Executor
    provenances: Provenances
    policy: Policy
    standings: Standings
    changes: LiveChanges
    writer: IndexWriter
