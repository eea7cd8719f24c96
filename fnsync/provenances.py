"""What git says of the functions, local ones and those of sources; each repository is asked by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from fnsync.git.bareview import BareView
from fnsync.git.traces import Made
from fnsync.model import LOCAL, CommitId, FunctionRow, Touch, Tree, Unit
from fnsync.places import inside, outside, source_of
from fnsync.provenance import News, Provenance
from fnsync.source.mounts import inner

#: The note that tells which commit the columns of git are of; of a source, with its name behind a colon.
HEAD_NOTE = "head"


def head_note(source: str) -> str:
    """The key of the note with the commit of a source, or of `local`."""
    return HEAD_NOTE if source == LOCAL else f"{HEAD_NOTE}:{source}"


class Provenances:
    """One Provenance for the functions folder, and one for each mounted tree."""

    def __init__(self, local: Provenance) -> None:
        self._known: dict[str, Provenance] = {LOCAL: local}
        self._folders: dict[str, tuple[object, ...]] = {}
        #: Path -> what git knew of a function that its source does not have any more.
        self._left: dict[str, Touch] = {}
        #: What an earlier process knew of sources.
        self._rows: dict[str, list[FunctionRow]] = {}
        self._heads: dict[str, CommitId] = {}
        self._turn = asyncio.Lock()

    @property
    def sources(self) -> Collection[str]:
        """`local`, and what is mounted."""
        return self._known.keys()

    def head(self, source: str) -> CommitId | None:
        """The commit that `touch` speaks of, for functions of a source; None: none yet."""
        return self._known[source].head if source in self._known else None

    def heads(self) -> dict[str, CommitId]:
        """Those of all, by the keys of their notes."""
        return {key: head for name in self._known for key, head in self.heads_of(name).items()}

    def heads_of(self, source: str) -> dict[str, CommitId]:
        """That of one, if there is one."""
        head = self.head(source)
        return {} if head is None else {head_note(source): head}

    def restore(self, rows: Iterable[FunctionRow], heads: Mapping[str, str]) -> None:
        """Begin with the index's columns, which were computed at `heads`."""
        for row in rows:
            self._rows.setdefault(row.source, []).append(replace(row, path=inside(row.path)))
        self._heads = {source: CommitId(head) for source, head in heads.items()}
        self._restore(LOCAL)

    def _restore(self, source: str) -> None:
        self._known[source].restore(self._rows.pop(source, []), self._heads.pop(source, None))

    def mount(self, tree: Tree) -> None:
        """Ask a source's mirror about another commit, from the next refresh on."""
        view = BareView(tree.repository, tree.commit, tree.path)
        folder = (tree.repository, tree.path)
        if self._folders.get(tree.source) == folder:
            self._known[tree.source].follow(view)
            return
        self._folders[tree.source] = folder
        self._known[tree.source] = Provenance(view, tree.folder)
        self._restore(tree.source)

    def unmount(self, source: str) -> None:
        """The source is gone."""
        self._known.pop(source, None)
        self._folders.pop(source, None)
        self._rows.pop(source, None)
        for path in [path for path in self._left if source_of(path) == source]:
            del self._left[path]

    def keep(self, path: str, touch: Touch) -> None:
        """What git knew of a function that its source does not have any more."""
        self._left[path] = touch

    def let_go(self, path: str) -> None:
        """The function is there again, or is gone."""
        self._left.pop(path, None)

    def left(self, path: str) -> Touch | None:
        """That, of a path; None: it has not left."""
        return self._left.get(path)

    def touch(self, unit: Unit) -> Touch | None:
        """What git knows of a function; None for files that git does not know."""
        if unit.path in self._left:
            return self._left[unit.path]
        known = self._known.get(unit.source)
        return None if known is None else known.touch(inner(unit))

    def committed(self, made: Made) -> None:
        """Take a commit that the server has just made in the functions folder."""
        self._known[LOCAL].committed(made)

    def files_changed(self, sources: Iterable[str]) -> None:
        """What the index remembers may not be of the files that are there now."""
        for source in sources:
            if source in self._known:
                self._known[source].files_changed()

    async def refresh(self, source: str) -> News | None:
        """Look at a repository's head, and read what came since; None: nothing did. Raises RepositoryError."""
        known = self._known.get(source)
        if known is None:
            return None
        if source == LOCAL:
            return await known.refresh()
        async with self._turn:  # long walks over many sources must not take all threads
            news = await known.refresh()
        if news is None or self._known.get(source) is not known:
            return None
        return news if news.paths is None else News(frozenset(outside(source, path) for path in news.paths))
