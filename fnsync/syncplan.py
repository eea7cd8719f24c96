"""What a sync would do, function by function, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fnsync.differences import Difference, What
from fnsync.model import CommitId, FunctionId, Problem, Revision

#: `conflict`: another file has the id. What does not load is in `error`, whatever the action.
Action = Literal["added", "changed", "removed", "unchanged", "conflict"]
ACTIONS: tuple[Action, ...] = ("added", "changed", "removed", "unchanged", "conflict")
#: The most differences that are told of one function.
MOST_DETAILS = 200


@dataclass(frozen=True, slots=True)
class FunctionChange:
    """What would become of one file's claim to an id."""

    id: FunctionId
    #: Its source as the sync leaves it; where it goes, as it is now. `NAME:PATH` in a source.
    path: str
    source: str
    action: Action
    #: What differs. Of a function that comes, what it needs, may, and offers.
    details: tuple[Difference, ...] = ()
    #: Why it would not go live. What serves now goes on then.
    error: Problem | None = None
    warnings: tuple[str, ...] = ()
    #: The revision of the files now, and afterwards; None: there are none, or they cannot be read.
    before: Revision | None = None
    after: Revision | None = None
    #: Whether it answers calls now.
    live: bool = False
    #: How many differences there are besides those in `details`.
    more_details: int = 0

    @property
    def changes(self) -> tuple[What, ...]:
        """What differs, by kind, in a fixed order."""
        return tuple(dict.fromkeys(one.what for one in self.details)) if self.action == "changed" else ()

    @property
    def is_wrong(self) -> bool:
        """Whether it would not go live."""
        return self.error is not None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "id": self.id,
            "path": self.path,
            "source": self.source,
            "action": self.action,
            "changes": list(self.changes),
            "details": [asdict(one) for one in self.details],
            "more_details": self.more_details,
            "error": None if self.error is None else asdict(self.error),
            "warnings": list(self.warnings),
            "before": self.before,
            "after": self.after,
            "live": self.live,
        }


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What going over to a commit would do to the functions of a source, or of the functions folder (`local`)."""

    source: str
    #: What was asked for; None: a source's own ref.
    ref: str | None
    #: What is there now; None: nothing yet, or no commit.
    before: CommitId | None
    after: CommitId
    #: By id and path; also those that stay as they are.
    functions: tuple[FunctionChange, ...] = ()
    #: Files that look like functions and can be none.
    refused: tuple[Problem, ...] = ()
    #: Whether what comes was loaded in workers; else errors are those that reading finds.
    loaded: bool = False
    #: What holds for all of it, for people.
    notes: tuple[str, ...] = ()
    #: Whether functions that left are removed.
    prune: bool = True

    @property
    def totals(self) -> Mapping[str, int]:
        """How many functions have each action, and `failing`: how many would not go live, whatever their action."""
        found: dict[str, int] = {action: self._count(action) for action in ACTIONS}
        return found | {"failing": len(self.failing)}

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return all(one.action == "unchanged" for one in self.functions)

    @property
    def is_wrong(self) -> bool:
        """Whether something would not go live."""
        return bool(self.refused or self.failing)

    def applies(self, gate: Literal["each", "all"]) -> bool:
        """Whether a sync with that gate goes over to the commit: with `all`, only if every function of it loads."""
        return gate == "each" or not self.failing

    @property
    def failing(self) -> tuple[FunctionChange, ...]:
        """What would not go live."""
        return tuple(one for one in self.functions if one.is_wrong)

    @property
    def live(self) -> int:
        """How many functions answer calls now."""
        return sum(one.live for one in self.functions)

    @property
    def removed(self) -> int:
        """How many of these would be removed."""
        return sum(one.live and one.action == "removed" for one in self.functions) if self.prune else 0

    @property
    def removed_share(self) -> float:
        """Which part of the functions that answer calls now would be removed; from 0 to 1."""
        return self.removed / self.live if self.removed else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON; docs/sync.md tells what is in it."""
        return {
            "source": self.source,
            "ref": self.ref,
            "before": self.before,
            "after": self.after,
            "loaded": self.loaded,
            "totals": dict(self.totals),
            "wrong": self.is_wrong,
            "gate_all": self.applies("all"),
            "removed_share": round(self.removed_share, 4),
            "prune": self.prune,
            "notes": list(self.notes),
            "refused": [asdict(one) for one in self.refused],
            "functions": [one.to_dict() for one in self.functions],
        }

    def _count(self, action: Action) -> int:
        return sum(one.action == action for one in self.functions)


def bounded(details: tuple[Difference, ...]) -> tuple[tuple[Difference, ...], int]:
    """As many differences as a plan tells of one function, and how many more there are."""
    return details[:MOST_DETAILS], max(0, len(details) - MOST_DETAILS)


def sorted_changes(changes: Iterable[FunctionChange]) -> tuple[FunctionChange, ...]:
    """In the order in which plans have them."""
    return tuple(sorted(changes, key=lambda one: (one.id, one.path)))
