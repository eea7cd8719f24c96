"""Histories made by chance, with the definitions of what is to be found in them spelt out over whole trees.

Each commit is known with its tree, so everything can be looked up where `fnsync.git` has to ask git for changes.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from fnsync import labels
from fnsync.git.renames import moves
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from fnsync.places import MAIN, is_source, own_folder, owners, settings_of
from tests.repositories import BEGIN, Repository

PATHS = ("a.py", "a.yaml", "b.py", "b.yaml", "a/main.py", "a/util.py", "a/main.yaml", "a/.noise", "_x.py")
SOURCES = ("x = 1\n" * 20, "y = 2\n" * 20, "x = 1\n" * 18 + "z\n" * 2)
SETTINGS = ("active: true\n", "name: A\n", "name: A\nactive: false\n", "name: B\n", "meta: {d: 1}\n", "name: [\n")

Tree = dict[str, str]
#: Numbers of the parents, time, tree.
Draft = tuple[tuple[int, ...], int, Tree]


@dataclass(frozen=True)
class Step:
    """How a commit comes from earlier ones; numbers are taken modulo what there is."""

    parents: tuple[int, ...]
    #: Path -> content; None: removed.
    edits: tuple[tuple[str, str | None], ...]
    #: Where a merge's parents differ, the one of this bit is taken.
    sides: int
    time: str


def _edit(path: str) -> st.SearchStrategy[tuple[str, str | None]]:
    contents = SETTINGS if path.endswith(".yaml") else SOURCES
    return st.tuples(st.just(path), st.sampled_from([None, *contents]))


edits = st.lists(st.sampled_from(PATHS).flatmap(_edit), min_size=1, max_size=3).map(tuple)
steps = st.builds(
    Step,
    parents=st.one_of(
        st.just((0,)), st.just((0,)), st.tuples(st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3))
    ),
    edits=edits,
    sides=st.integers(0, 2 ** len(PATHS) - 1),
    time=st.sampled_from(["later", "later", "same", "earlier"]),
)


@dataclass(frozen=True)
class Commit:
    id: str
    parents: tuple[str, ...]
    at: int
    tree: Tree


class History:
    """The commits of some steps, in a repository; HEAD is the last."""

    def __init__(self, repository: Repository, plan: list[Step]) -> None:
        self.repository = repository
        drafts: list[Draft] = []
        for number, step in enumerate(plan):
            drafts.append(_draft(drafts, number, step))
        ids = _import(repository.folder, drafts)
        self.commits = {
            ids[n]: Commit(ids[n], tuple(ids[p] for p in parents), at, tree)
            for n, (parents, at, tree) in enumerate(drafts)
        }
        self.head = ids[-1]

    def state(self, id: str, source: str) -> object:
        """What a function is at a commit; None: it is not there."""
        tree = self.commits[id].tree
        if source not in tree:
            return None
        folder, settings = own_folder(source), settings_of(source)
        own = {path: text for path, text in tree.items() if path == source or (folder and source in owners(path))}
        own.pop(settings, None)
        return frozenset(own.items()), labels.read(tree.get(settings, "").encode()).key

    @cache  # noqa: B019 - for one test
    def walk(self) -> tuple[str, ...]:
        """HEAD and all before it: children before parents, else by time."""
        children: dict[str, int] = {}
        reached, pending = set(), [self.head]
        while pending:
            id = pending.pop()
            if id not in reached:
                reached.add(id)
                pending.extend(self.commits[id].parents)
        for id in reached:
            for parent in self.commits[id].parents:
                children[parent] = children.get(parent, 0) + 1
        ready, found = [self.head], []
        while ready:
            id = max(ready, key=lambda id: self.commits[id].at)
            ready.remove(id)
            found.append(id)
            for parent in self.commits[id].parents:
                children[parent] -= 1
                if not children[parent]:
                    ready.append(parent)
        return tuple(found)

    @cache  # noqa: B019 - for one test
    def order(self, id: str) -> int:
        commit = self.commits[id]
        return max([commit.at, *(self.order(parent) + 1 for parent in commit.parents)])

    def version(self, source: str) -> str | None:
        """The commit that made a function what it is at HEAD."""
        if source not in self.commits[self.head].tree:
            return None
        id = self.head
        while True:
            state = self.state(id, source)
            same = [parent for parent in self.commits[id].parents if self.state(parent, source) == state]
            if not same:
                return id
            id = same[0]

    def changes(self, path: str) -> list[str]:
        """The commits that touched a path since its creation, the newest first."""
        having = {self.head}
        found = []
        for id in self.walk():
            if id not in having:
                continue
            before = {parent: self.commits[parent].tree.get(path) for parent in self.commits[id].parents}
            having |= {parent for parent, text in before.items() if text is not None}
            if self.commits[id].tree[path] not in before.values():
                found.append(id)
                if not any(text is not None for text in before.values()):
                    break
        return found

    def lineage(self, source: str) -> dict[str, str]:
        """The commits that have a function, with its source's path there; {} if a commit has it under two names."""
        found: dict[str, str] = {}
        alike: list[tuple[str, str]] = []
        renamed: list[tuple[str, str]] = []
        pending = [(self.head, source)] if source in self.commits[self.head].tree else []
        while pending:
            id, path = pending.pop(0)
            if found.setdefault(id, path) != path:
                return {}
            parents = self.commits[id].parents
            having = [parent for parent in parents if path in self.commits[parent].tree]
            pending += [(parent, path) for parent in having if parent not in found]
            other = [(parent, name) for parent in parents if (name := self._other_name(parent, id, path))]
            if having:
                alike += other
            else:
                pending += other
                renamed += other
            if not pending:  # branches that went on under an old name
                pending = [
                    (parent, name)
                    for parent, name in alike
                    if name in found.values()
                    and not any(
                        old == name and self._files(at, old) == self._files(parent, name) for at, old in renamed
                    )
                ]
                renamed += pending
                alike = [pair for pair in alike if pair[1] not in found.values()]
        return found

    def _files(self, id: str, source: str) -> Tree:
        folder = own_folder(source)
        own = {source, settings_of(source)}
        return {
            path: text
            for path, text in self.commits[id].tree.items()
            if path in own or (folder and path.startswith(folder + "/"))
        }

    def _other_name(self, parent: str, id: str, path: str) -> str | None:
        """The name that a source had in a parent, where git sees it renamed."""
        tree = self.commits[parent].tree
        if path in tree:
            return None
        folder = WorkTree.ensure(self.repository.functions, self.repository.folder)
        name = moves(folder, CommitId(parent), CommitId(id)).get(path)
        return name if name is not None and is_source(name, lambda around: f"{around}/{MAIN}" in tree) else None

    def is_version(self, id: str, path: str) -> bool:
        """Whether a function differs from what it is in each parent."""
        return all(self.state(parent, path) != self.state(id, path) for parent in self.commits[id].parents)

    @cache  # noqa: B019 - for one test
    def before(self, id: str) -> frozenset[str]:
        """A commit and all before it."""
        return frozenset({id}).union(*(self.before(parent) for parent in self.commits[id].parents))


def _draft(drafts: list[Draft], number: int, step: Step) -> tuple[tuple[int, ...], int, Tree]:
    if not drafts:
        parents: tuple[int, ...] = ()
    else:  # counted back from the newest
        parents = tuple(dict.fromkeys(number - 1 - back % number for back in step.parents))
    tree = dict(drafts[parents[0]][2]) if parents else {}
    for other in parents[1:]:
        for bit, path in enumerate(PATHS):
            if step.sides >> bit & 1:
                _put(tree, path, drafts[other][2].get(path))
    if len(parents) < 2 or step.sides % 3 == 0:
        for path, text in step.edits:
            _put(tree, path, text)
    at = BEGIN + 1000 * number
    if number - 1 in parents and step.time != "later":  # else two branches would have commits of one second
        at = drafts[number - 1][1] - (400 if step.time == "earlier" else 0)
    return parents, at, tree


def _put(tree: Tree, path: str, text: str | None) -> None:
    if text is None:
        tree.pop(path, None)
    else:
        tree[path] = text


def _import(folder: Path, drafts: list[Draft]) -> list[str]:
    lines = []
    for number, (parents, at, tree) in enumerate(drafts):
        who = f"a{number}@example.org"
        lines += [f"commit refs/heads/c{number}", f"mark :{number + 1}", f"author A <{who}> {at} +0000"]
        lines += [f"committer C <c@example.org> {at} +0000", "data 1", "m"]
        lines += [f"{'merge' if n else 'from'} :{parent + 1}" for n, parent in enumerate(parents)]
        lines += ["deleteall"]
        for path, text in tree.items():
            lines += [f"M 100644 inline functions/{path}", f"data {len(text)}", text]
    script = "\n".join([*lines, ""]).encode()
    marks = folder / "marks"
    command = ["git", "-C", str(folder), "fast-import", "--quiet", "--force", f"--export-marks={marks}"]
    subprocess.run(command, input=script, check=True, capture_output=True)
    ids = dict(line.split() for line in marks.read_text().splitlines())
    head = ids[f":{len(drafts)}"]
    (folder / ".git" / "HEAD").write_text(head + "\n")
    return [ids[f":{n + 1}"] for n in range(len(drafts))]
