"""Follows one function back through its commits, over branches and renames, to where it was created."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from fnsync.git import command, tree
from fnsync.git.blobs import Blobs
from fnsync.git.labelling import Labelling
from fnsync.git.log import Deltas, Entry, differences, entries
from fnsync.git.renames import moves
from fnsync.git.scope import Scope
from fnsync.model import CommitId
from fnsync.places import owners, whereabouts


@dataclass(frozen=True, slots=True)
class Station:
    """A commit on the way."""

    commit: CommitId
    #: Committer's time, seconds since the epoch.
    at: int
    #: The function's source there.
    path: str
    #: Whether the function differs from what it is in each parent.
    is_version: bool


def lineage(scope: Scope, head: CommitId, source: str) -> list[Station]:
    """The commits that touched a function's files since it was created, and merges between them.

    Children come before parents, else by time, the newest first. Raises RepositoryError.
    """
    if source not in tree.files(scope, head, source):
        return []
    with Blobs(scope.root, scope.variables) as blobs:
        follower = _Follower(scope, Labelling(blobs if scope.has_contents() else None))
        follower.follow(source, head)
    return follower.in_order()


@dataclass(frozen=True, slots=True)
class _Renamed:
    """Where the function had another name."""

    path: str
    #: A commit that has it there.
    start: CommitId
    #: The commit that renamed it, or a merge.
    child: CommitId


class _Follower:
    def __init__(self, scope: Scope, labelling: Labelling) -> None:
        self._scope = scope
        self._labelling = labelling
        self._stations: dict[CommitId, Station] = {}
        self._parents: dict[CommitId, set[CommitId]] = {}
        self._paths: set[str] = set()
        self._renamed: list[_Renamed] = []
        self._begun: dict[tuple[str, CommitId], CommitId | None] = {}
        #: Stations whose other parents were looked at.
        self._compared: set[CommitId] = set()

    def follow(self, source: str, head: CommitId) -> None:
        self._follow(source, head)
        while self._renamed:
            renamed = self._renamed.pop(0)
            start = renamed.path, renamed.start
            if start not in self._begun:
                self._begun[start] = self._follow(*start)
            tip = self._begun[start]
            if tip is not None:
                self._parents[renamed.child].add(tip)
            if not self._renamed:
                self._renamed = self._old_names_in_branches()

    def in_order(self) -> list[Station]:
        children = dict.fromkeys(self._stations, 0)
        for parents in self._parents.values():
            for parent in parents & children.keys():
                children[parent] += 1
        ready = [station for commit, station in self._stations.items() if not children[commit]]
        found = []
        while ready:
            station = max(ready, key=lambda station: station.at)
            ready.remove(station)
            found.append(station)
            for parent in self._stations.keys() & self._parents[station.commit]:
                children[parent] -= 1
                if not children[parent]:
                    ready.append(self._stations[parent])
        return found

    def _follow(self, source: str, start: CommitId) -> CommitId | None:
        """Follow the function under one name from a commit that has it; returns the first commit on the way."""
        self._paths.add(source)
        specs = [self._scope.spec(file) for file in whereabouts(source)]
        first: CommitId | None = None
        waiting: set[CommitId] = set()
        with closing(entries(self._scope, start, specs)) as log:
            for entry in log:
                if first is None:
                    first = entry.commit
                    waiting.add(first)
                if entry.commit in waiting:
                    waiting.remove(entry.commit)
                    if entry.commit not in self._stations:
                        waiting |= self._see(entry, source)
                if not waiting:
                    break
        return first

    def _see(self, entry: Entry, source: str) -> set[CommitId]:
        """Take a commit that has the function; returns the parents that have it under the same name."""
        is_version = all(self._differs(source, deltas) for deltas in entry.deltas)
        self._stations[entry.commit] = Station(entry.commit, entry.at, source, is_version)
        created = [source in deltas and deltas[source].before is None for deltas in entry.deltas]
        before = {parent for parent, is_new in zip(entry.parents, created, strict=False) if not is_new}
        self._parents[entry.commit] = set(before)
        if all(created):
            self._renamed += self._other_names(entry.commit, source)
        return before

    def _differs(self, source: str, deltas: Deltas) -> bool:
        return any(
            self._labelling.counts(path, source, delta) for path, delta in deltas.items() if source in owners(path)
        )

    def _other_names(self, commit: CommitId, source: str) -> list[_Renamed]:
        """The names that a function had in the parents of the commit that created it, where git sees it renamed."""
        found = []
        for parent in self._all_parents([commit])[commit]:
            path = moves(self._scope, parent, commit).get(source)
            if path is not None and tree.is_function(path, tree.files(self._scope, parent)):
                found.append(_Renamed(path, parent, commit))
        return found

    def _old_names_in_branches(self) -> list[_Renamed]:
        """Where a branch changed the function under an old name, and was merged with one that had renamed it.

        A merge may make other files look like renamed too; so only names count that the function had.
        """
        fresh = {commit: station for commit, station in self._stations.items() if commit not in self._compared}
        self._compared |= fresh.keys()
        pairs: dict[str, list[tuple[CommitId, CommitId]]] = {}
        for commit, parents in self._all_parents(list(fresh)).items():
            if len(parents) > 1:
                pairs.setdefault(fresh[commit].path, []).extend((commit, parent) for parent in parents)
        found = []
        for source, compared in pairs.items():
            for (commit, parent), deltas in zip(
                compared, differences(self._scope, compared, [self._scope.spec(source)]), strict=True
            ):
                if source in deltas and deltas[source].before is None:
                    path = moves(self._scope, parent, commit).get(source)
                    if path in self._paths and not self._is_known(path, parent):
                        found.append(_Renamed(path, parent, commit))
        return found

    def _is_known(self, source: str, start: CommitId) -> bool:
        """Whether the function was followed already from a commit where it is the same under that name."""
        followed = [commit for path, commit in self._begun if path == source]
        files = whereabouts(source)
        now = tree.files(self._scope, start, *files)
        return start in followed or any(tree.files(self._scope, commit, *files) == now for commit in followed)

    def _all_parents(self, commits: list[CommitId]) -> dict[CommitId, list[CommitId]]:
        """The parents of commits; those in the log may be further back, where another name was not used yet."""
        if not commits:
            return {}
        lines = "".join(f"{commit}\n" for commit in commits)
        asked = ("rev-list", "--parents", "--no-walk=unsorted", "--stdin")
        _, output = command.run(self._scope.root, *asked, stdin=lines.encode(), variables=self._scope.variables)
        ids = [[CommitId(id) for id in line.split()] for line in output.decode().splitlines()]
        return {commit: parents for commit, *parents in ids}
