"""Reads one function from disk: its source, helpers, shared modules and settings."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from fnsync.errors import SourceError
from fnsync.model import FileStamp, Frontmatter, FunctionId, Inspection, Part, Problem, Settings, Unit
from fnsync.places import MAIN
from fnsync.source import files, frontmatter, imports, inspection, packages, revisions, settings, sharing, syntax
from fnsync.source.decoding import decode
from fnsync.source.discovery import bad_id, id_of, walk
from fnsync.source.ignoring import Ignores
from fnsync.source.imports import Imported

SOURCE_BYTES = 5 * 1024 * 1024
SETTINGS_BYTES = 256 * 1024
#: All files of a function together, shared ones included.
TOTAL_BYTES = 50 * 1024 * 1024
TOTAL_FILES = 2_000

#: Parsed helpers and shared modules that are kept; many functions import the same ones.
_CACHED = 500
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """A unit as it was read, with its source's text (replacement characters where it is no UTF-8)."""

    unit: Unit
    text: str


def read(root: Path, path: str) -> Reading:
    """Read the function whose source is `path` below `root`; what is wrong with it is in `unit.problem`."""
    return Reader(root).read(path)


class Reader:
    """Reads functions one after the other, and keeps what they have in common."""

    def __init__(self, root: Path, ignores: Ignores | None = None) -> None:
        self._root = root
        self._ignores = ignores or Ignores(root)
        self._modules: dict[str, _Module] = {}

    def read(self, path: str) -> Reading:
        """As the module's `read`; never raises for what is wrong with the files."""
        for _ in range(_ATTEMPTS):
            try:
                return _Attempt(self, self._root, self._ignores, path).run()
            except files.Vanished as exc:
                vanished = exc.problem
                if vanished.path == path:
                    break
        stamps = {path: files.look(self._root, path)}
        return Reading(Unit(id_of(path), path, None, settings_known=False, problem=vanished, stamps=stamps), "")

    def module(self, digest: str, data: bytes, path: str) -> _Module:
        """The imports of a helper or shared module, parsed once per content."""
        found = self._modules.get(digest)
        if found is None:
            if len(self._modules) >= _CACHED:
                self._modules.clear()
            found = self._modules[digest] = _parsed(data, path)
        problem = found.problem
        return replace(found, problem=replace(problem, path=path)) if problem else found


@dataclass(frozen=True, slots=True)
class _Module:
    imports: tuple[Imported, ...] = ()
    problem: Problem | None = None


def _parsed(data: bytes, path: str) -> _Module:
    try:
        if len(data) > SOURCE_BYTES:
            raise files.too_large(path, len(data), SOURCE_BYTES)
        return _Module(imports.imported(syntax.tree(decode(data, path), path)))
    except SourceError as exc:
        return _Module(problem=exc.problem)


class _Whole(Exception):
    """The files could not be read whole, so there is no revision."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass
class _Attempt:
    """One pass over a function's files; raises Vanished when one of them went away meanwhile."""

    reader: Reader
    root: Path
    ignores: Ignores
    path: str
    parts: list[Part] = field(default_factory=list)
    stamps: dict[str, FileStamp | None] = field(default_factory=dict)
    #: What is wrong, the gravest first.
    problems: list[Problem] = field(default_factory=list)
    helpers: frozenset[str] = frozenset()
    shared: set[str] = field(default_factory=set)
    imported: tuple[Imported, ...] = ()
    #: Those of all files.
    all_imported: list[Imported] = field(default_factory=list)
    total_bytes: int = 0

    def run(self) -> Reading:
        text, frontmatter_, inspection_ = "", Frontmatter(), Inspection()
        revision = None
        try:
            self._check_id()
            data = self._load(self.path, revisions.ENTRY, SOURCE_BYTES)
            text = data.decode(errors="replace").removeprefix("\ufeff")
            module = self._source_tree(data)
            asking = list(self._read_helpers())
            self._read_shared(asking, module)
            frontmatter_, inspection_ = self._understand(text, module)
            revision = revisions.revision(self.parts)
        except _Whole as exc:
            self.problems.insert(0, exc.problem)
        others = len(self.problems)
        settings_path, settings_ = self._settings()
        unit = Unit(
            id=FunctionId(id_of(self.path)),
            path=self.path,
            revision=revision,
            parts=tuple(sorted(self.parts, key=lambda part: part.place)) if revision else (),
            settings_path=settings_path,
            settings=settings_,
            settings_known=len(self.problems) == others,
            frontmatter=frontmatter_,
            inspection=inspection_,
            problem=next(iter(self.problems), None),
            stamps=self.stamps,
        )
        return Reading(unit, text)

    # ---- files --------------------------------------------------------------------------------------------

    def _check_id(self) -> None:
        problem = bad_id(self.path)
        if problem is not None:
            self.stamps[self.path] = files.look(self.root, self.path)
            raise _Whole(problem)

    def _load(self, path: str, place: str, limit_bytes: int) -> bytes:
        """Read a file and make it a part. Raises Vanished, or _Whole for a file that cannot be read."""
        try:
            content = files.load(self.root, path, limit_bytes)
        except files.Vanished:
            raise
        except SourceError as exc:
            self.stamps[path] = None if exc.problem.code in files.REFUSED else files.look(self.root, path)
            raise _Whole(exc.problem) from exc
        self.stamps[path] = content.stamp
        self.total_bytes += len(content.data)
        if self.total_bytes > TOTAL_BYTES:
            message = f"the function's files are larger than {TOTAL_BYTES:,} bytes together"
            raise _Whole(Problem("too_large", message, path, hint="move data out of the functions folder"))
        self.parts.append(Part(path, place, revisions.digest(content.data)))
        if len(self.parts) > TOTAL_FILES:
            message = f"the function has more than {TOTAL_FILES:,} files"
            raise _Whole(Problem("too_many_files", message, self.path, hint="move data out of the functions folder"))
        return content.data

    def _load_all(self, found: dict[str, str], depth_of: int) -> Iterator[tuple[_Module, str, int]]:
        """Read files (place -> path); yield the Python ones with their imports, place and number of packages."""
        for place in sorted(found):
            data = self._load(found[place], place, TOTAL_BYTES)
            if place.endswith(".py"):
                module = self.reader.module(self.parts[-1].digest, data, found[place])
                yield module, place, place.count("/") - depth_of

    def _read_helpers(self) -> Iterator[tuple[_Module, str, int]]:
        """What lies beside a `main.py`."""
        folder, _, name = self.path.rpartition("/")
        if name != MAIN or not folder:
            return
        listing = walk(self.root, folder, ignores=self.ignores, most=TOTAL_FILES + 10)
        for path in listing.files:
            self.stamps.setdefault(path, listing.files[path])
        if listing.refused:
            raise _Whole(listing.refused[min(listing.refused)])
        own = {self.path, *(self._beside(suffix) for suffix in (".yaml", ".yml"))}
        helpers = {f"function/{path[len(folder) + 1 :]}": path for path in listing.files if path not in own}
        self.helpers = frozenset(place.split("/")[1].removesuffix(".py") for place in helpers)
        yield from self._load_all(helpers, 1)

    def _read_shared(self, asking: list[tuple[_Module, str, int]], source: ast.Module | None) -> None:
        """The shared modules that the function's files import, and those that these import."""
        self.imported = () if source is None else imports.imported(source)
        pending = [(_Module(self.imported), revisions.ENTRY, 0), *asking]
        self._note_broken_helpers(pending)
        seen: set[str] = set()
        while pending:
            module, place, depth = pending.pop()
            self.all_imported += module.imports
            beside = self.helpers if place.startswith("function/") else frozenset()
            for name in sharing.asked(module.imports, depth, beside):
                if name not in seen:
                    seen.add(name)
                    pending.extend(self._shared_module(name))

    def _shared_module(self, name: str) -> Iterator[tuple[_Module, str, int]]:
        folder, _, main = self.path.rpartition("/")
        base = folder.rpartition("/")[0] if main == MAIN and folder else folder
        found = sharing.locate(self.root, base, name, self.ignores, TOTAL_FILES + 10)
        for path, stamp in found.stamps.items():
            self.stamps.setdefault(path, stamp)
        if found.problem is not None:
            raise _Whole(found.problem)
        if found.files:
            self.shared.add(name)
        for module, place, depth in self._load_all(found.files, 1):
            self.problems.extend([module.problem] if module.problem else [])
            yield module, place, depth

    def _note_broken_helpers(self, modules: list[tuple[_Module, str, int]]) -> None:
        """Helpers that Python does not parse are a problem if something imports them by name."""
        broken = {_dotted(place): module.problem for module, place, _ in modules if module.problem}
        if broken:
            named = {name for module, place, depth in modules for name in _names(module.imports, place, depth)}
            self.problems.extend(problem for name, problem in sorted(broken.items()) if problem and name in named)

    # ---- what they say ------------------------------------------------------------------------------------

    def _source_tree(self, data: bytes) -> ast.Module | None:
        try:
            return syntax.tree(decode(data, self.path), self.path)
        except SourceError as exc:
            self.problems.append(exc.problem)
            return None

    def _understand(self, text: str, module: ast.Module | None) -> tuple[Frontmatter, Inspection]:
        found = Inspection()
        own: list[Problem] = []
        if module is not None:
            origins = imports.classified(self.imported, self.helpers, frozenset(self.shared))
            found = inspection.inspect_tree(module, text, origins)
            if found.kind is None:
                own.append(inspection.no_class(found, self.path))
        try:
            metadata = frontmatter.parse(text)
            needed = packages.inferred(self.all_imported, self.helpers | self.shared, metadata.requirements)
            metadata = replace(metadata, inferred=needed)
        except SourceError as exc:
            metadata = Frontmatter()
            own.append(replace(exc.problem, path=self.path))
        # A shared module that does not parse comes after what is wrong with the source itself.
        at = 1 if module is None else 0
        self.problems[at:at] = own
        return metadata, found

    def _beside(self, suffix: str) -> str:
        """The path with the source's stem and another suffix."""
        return self.path.removesuffix(".py") + suffix

    def _settings(self) -> tuple[str | None, Settings]:
        """Return the settings file's path, if it is there, and what it says; the defaults if it is no good."""
        path, found = self._beside(".yaml"), None
        if self._is_there(path):
            try:
                content = files.load(self.root, path, SETTINGS_BYTES)
                self.stamps[path] = content.stamp
                found = settings.parse(decode(content.data, path), path)
            except files.Vanished:
                self.stamps[path] = None
            except SourceError as exc:
                self.problems.append(exc.problem)
        wrong = self._beside(".yml")
        if self._is_there(wrong):
            message = "a settings file's name ends in .yaml; this one is not read"
            hint = f"rename it to {path.rpartition('/')[2]}"
            self.problems.append(Problem("settings_name", message, wrong, hint=hint))
        return path if self.stamps[path] is not None else None, found or Settings()

    def _is_there(self, path: str) -> bool:
        """Whether a settings file is there and not ignored; one that is refused is a problem."""
        listing = sharing.listed(self.root, path, self.ignores, 1)
        self.stamps[path] = listing.files.get(path)
        self.problems.extend(listing.refused[key] for key in sorted(listing.refused))
        return path in listing.files


def _dotted(place: str) -> str:
    """The module name of a helper's place in the snapshot."""
    return place.removeprefix("function/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _names(found: Iterable[Imported], place: str, depth: int) -> Iterator[str]:
    """The dotted names, from the function's folder, of all modules that a file's imports may load."""
    packages = place.split("/")[1:-1]
    for item in found:
        base = packages[: depth - item.level + 1] if item.level else []
        parts = [*base, *(part for part in item.module.lstrip(".").split(".") if part)]
        yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        yield from (".".join([*parts, name]) for name in item.names)
