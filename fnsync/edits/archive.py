"""What functions were at their versions; git keeps them, that of the functions folder or a source's mirror."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fnsync.editions import Edition, edition
from fnsync.errors import NotFound, RepositoryError, Unavailable
from fnsync.git import contents, versions
from fnsync.git.bareview import BareView
from fnsync.git.contents import VersionFiles
from fnsync.git.origins import Origins
from fnsync.git.scope import Scope
from fnsync.git.versions import Version
from fnsync.git.worktree import WorkTree
from fnsync.model import LOCAL, Tree, Unit
from fnsync.places import MAIN, inside, own_folder, settings_of
from fnsync.source import files
from fnsync.source.discovery import walk
from fnsync.source.reading import SETTINGS_BYTES, TOTAL_BYTES, TOTAL_FILES, Reader


@dataclass(frozen=True, slots=True)
class _Place:
    scope: Scope
    folder: Path
    #: The source file, from there.
    path: str


class Archive:
    """Reads versions of functions. Blocking; every method raises RepositoryError, and Unavailable without git."""

    def __init__(
        self, worktree: WorkTree | None, functions: Path, trees: Callable[[], Mapping[str, Tree]] = lambda: {}
    ) -> None:
        """`trees` gives those that are mounted, by their sources."""
        self._worktree = worktree
        self._functions = functions
        self._trees = trees

    def versions(self, unit: Unit, skip: int, limit: int) -> list[Version]:
        """The versions, newest first."""
        place = self._place(unit)
        return versions.versions(place.scope, place.folder, place.path, skip=skip, limit=limit)

    def version(self, unit: Unit, text: str) -> Version:
        """The version that a full or shortened hash names. Raises NotFound."""
        place = self._place(unit)
        return versions.version(place.scope, place.folder, place.path, text)

    def edition(self, unit: Unit, text: str) -> tuple[Version, Edition]:
        """What the function was at a version. Raises NotFound, Invalid for files that are too large."""
        version, files = self.files(unit, text)
        return version, edition(version.path, files)

    def files(self, unit: Unit, text: str) -> tuple[Version, VersionFiles]:
        """The function's files at a version. Raises NotFound, Invalid for files that are too large."""
        place = self._place(unit)
        version = self.version(unit, text)
        try:
            return version, contents.version_files(place.scope, place.folder, version)
        except RepositoryError as exc:
            if place.scope.has_contents():
                raise
            raise NotFound(
                f"the mirror of {unit.source} has not all that {unit.id} was at {version.commit[:12]}",
                hint="set `partial: false` for the source to have it keep the contents of all its commits",
            ) from exc

    def is_same(self, unit: Unit, text: str) -> bool:
        """Whether what the function is on disk is what it was at a commit; False for a text that names none."""
        place = self._place(unit)
        try:
            commit = versions.resolve(place.scope, text)
        except NotFound:
            return False
        if isinstance(place.scope, WorkTree):
            return contents.same_since(place.scope, self._functions, commit, place.path)
        return contents.same_in(place.scope, commit, place.path)

    def now(self, unit: Unit) -> Unit:
        """The function as its files are now; the last look at them may be a moment ago."""
        return Reader(self._functions).read(unit.path).unit if unit.source == LOCAL else unit

    def on_disk(self, unit: Unit) -> tuple[str, VersionFiles]:
        """The function's source, relative to its folder or tree, and its files as they are now.

        Raises NotFound if the source cannot be read.
        """
        place = self._place(unit)
        folder, settings = own_folder(place.path), settings_of(place.path)
        found = [place.path] if folder is None else walk(place.folder, folder, most=TOTAL_FILES).files
        held: dict[str, bytes] = {}
        for path in found:
            if path != settings:
                where = MAIN if path == place.path or folder is None else path[len(folder) + 1 :]
                held[where] = files.load(place.folder, path, TOTAL_BYTES).data
        if MAIN not in held:
            raise NotFound(f"{unit.path} is not there any more")
        try:
            said = files.load(place.folder, settings, SETTINGS_BYTES).data
        except files.Vanished:
            said = None
        return place.path, VersionFiles(held, said)

    def _place(self, unit: Unit) -> _Place:
        if unit.source == LOCAL:
            return _Place(self._tree(), self._functions, unit.path)
        tree = self._trees().get(unit.source)
        if tree is None:
            raise Unavailable(f"the source {unit.source} is not there, so there is no history")
        return _Place(BareView(tree.repository, tree.commit, tree.path), tree.folder, inside(unit.path))

    def origins(self, url: str) -> Origins:
        """Which files of the functions folder were copied from the repository at `url`."""
        return Origins(self._tree().of(self._functions), url)

    def _tree(self) -> WorkTree:
        if self._worktree is None:
            raise Unavailable("there is no usable git repository around the functions folder, so there is no history")
        return self._worktree
