"""What edits do to files: each reads what is there and says what should be there instead. Nothing is written here."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fnsync.edits.readonly import Check, unchecked
from fnsync.errors import Conflict, Invalid, SourceError, UnknownFunction
from fnsync.model import Frontmatter, FunctionId, Settings, Unit
from fnsync.places import own_folder, settings_of
from fnsync.source import discovery, files, frontmatter, settings
from fnsync.source.decoding import decode
from fnsync.source.reading import SOURCE_BYTES, TOTAL_BYTES

_T = TypeVar("_T")

#: Keys of `meta` that are always worked out from the source.
COMPUTED = frozenset({"manifest", "toggle"})
#: What an id may be in words; the peer's own.
ID_RULE = "Only alphanumeric characters and underscores are allowed in the id"

_BOM = codecs.BOM_UTF8.decode()


@dataclass(frozen=True, slots=True)
class Content:
    """What a client says a function is."""

    name: str
    source: str
    #: `description` and any other keys.
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The source as clients are shown it."""
        return self.source.removeprefix(_BOM)


@dataclass(frozen=True, slots=True)
class Draft:
    """What an edit comes to. Paths are from the functions folder; None: there is no file."""

    before: Mapping[str, bytes | None]
    after: Mapping[str, bytes | None]
    #: Functions that the edit is about, in the order they are answered.
    ids: tuple[FunctionId, ...]
    #: Sources whose functions must load before anything is written.
    sources: tuple[str, ...] = ()
    #: Files that go on with what they held: changes of theirs that are in no commit yet may be committed along.
    carried: frozenset[str] = frozenset()

    @property
    def code(self) -> dict[str, bytes | None]:
        """What has to load: the sources that change, with their new content."""
        return {path: self.after[path] for path in self.sources if path in self.after}


class Drafting:
    """Collects what one edit reads and writes."""

    def __init__(
        self, root: Path, find: Callable[[FunctionId], Unit | None], active: bool, check: Check = unchecked
    ) -> None:
        """`find` gives the claim to an id that counts; `active` is what holds for functions that do not say. `check`
        raises for functions that are not changed here; then each method does that is given one."""
        self._root = root
        self._find = find
        self._active = active
        self._check = check
        self._before: dict[str, bytes | None] = {}
        #: What the drafts that this one is an attempt of have made of files so far.
        self._earlier: tuple[Mapping[str, bytes | None], ...] = ()
        self._after: dict[str, bytes | None] = {}
        #: In their order.
        self._ids: dict[FunctionId, None] = {}
        self._sources: set[str] = set()
        self._carried: set[str] = set()

    @property
    def changed(self) -> frozenset[str]:
        """The files that are to become something else, so far."""
        return frozenset(path for path, content in self._after.items() if content != self._before[path])

    def draft(self) -> Draft:
        """What it came to; files that stay as they are, are left out."""
        after = {path: content for path, content in self._after.items() if content != self._before[path]}
        return Draft(
            {path: self._before[path] for path in after},
            after,
            tuple(self._ids),
            tuple(sorted(self._sources)),
            frozenset(self._carried & after.keys()),
        )

    def attempt(self, change: Callable[[Drafting], _T]) -> _T:
        """Have a part of the edit made; nothing of it stays if it raises."""
        part = Drafting(self._root, self._find, self._active, self._check)
        part._before, part._earlier = self._before, (self._after, *self._earlier)
        result = change(part)
        self._after |= part._after
        self._ids |= part._ids
        self._sources |= part._sources
        self._carried |= part._carried
        return result

    # ---- edits -------------------------------------------------------------------------------------------

    def create(
        self,
        id: str,
        content: Content,
        *,
        active: bool = False,
        is_global: bool = False,
        owner: str | None = None,
        valves: Mapping[str, Any] | None = None,
        tried: bool = True,
    ) -> FunctionId:
        """A new function. `valves` are in the form of the settings file; with `tried`, it has to load before anything
        is written. Raises Invalid for the id, Conflict when it is taken."""
        made = checked_id(id)
        unit = self._find(made)
        if unit is not None:
            self._check(unit)
            raise Conflict(
                f"the id {made} is taken, by {unit.path}", hint="choose another one, or update that function"
            )
        path = f"{made}.py"
        for taken in (path, f"{made}.yaml"):
            if self.read(taken) is not None:
                raise Conflict(f"the file {taken} is there already", hint="choose another id, or remove the file")
        self._put_source(path, content.source, tried)
        flags = {"active": active, "global": is_global or None, "owner": owner, "valves": dict(valves or {})}
        self._amend(f"{made}.yaml", {**_described(made, content), **flags})
        self._ids[made] = None
        return made

    def update(self, unit: Unit, content: Content, *, tried: bool = True) -> None:
        """New source, name and meta of a function; everything else of it stays."""
        self._check(unit)
        self._put_source(unit.path, content.source, tried)
        self.amend(unit, _described(unit.id, content))

    def toggle(self, unit: Unit) -> bool:
        """Switch a function on or off; returns what it is then."""
        now = self.settings(unit).active
        active = not (self._active if now is None else now)
        self.amend(unit, {"active": active})
        return active

    def toggle_global(self, unit: Unit) -> bool:
        """Make a function global, or not; returns what it is then."""
        is_global = not self.settings(unit).is_global
        self.amend(unit, {"global": is_global})
        return is_global

    def set_valves(self, unit: Unit, stored: Mapping[str, Any]) -> None:
        """Other stored values, in the form of the settings file."""
        self.amend(unit, {"valves": dict(stored)})

    def set_flags(self, unit: Unit, *, active: bool, is_global: bool) -> None:
        """Switched on or off, and global or not."""
        now = self.settings(unit)
        is_active = self._active if now.active is None else now.active
        changes: dict[str, Any] = {"active": active} if is_active is not active else {}
        if now.is_global is not is_global:
            changes["global"] = is_global or None
        if changes:
            self.amend(unit, changes)

    def delete(self, unit: Unit) -> None:
        """No such function any more: its source, its settings, and for a folder all that is in it."""
        self._check(unit)
        for path in self.own_files(unit):
            self._put(path, None)
        self._ids[unit.id] = None

    def restore(self, unit: Unit, parts: Mapping[str, bytes], name: str | None, meta: Mapping[str, Any]) -> None:
        """An earlier version: its source and helpers (path from the functions folder -> content), name and meta."""
        self._check(unit)
        settings_path = settings_of(unit.path)
        for path in self.own_files(unit):
            if path != settings_path and path not in parts:
                self._put(path, None)
        for path, content in parts.items():
            self._put(path, content)
        self._sources.add(unit.path)
        self.amend(unit, {"name": name, "meta": dict(meta) or None})

    def place(self, contents: Mapping[str, bytes | None], ids: Iterable[FunctionId], sources: Iterable[str]) -> None:
        """Files with these contents (None: gone), functions that this is about, and sources that have to load then."""
        for path, content in contents.items():
            self._put(path, content)
        self._ids |= dict.fromkeys(ids)
        self._sources |= set(sources)

    def amend(self, unit: Unit, changes: Mapping[str, Any]) -> None:
        """Change keys of a function's settings file. Raises Conflict for a file that is no good."""
        self._check(unit)
        self._amend(settings_of(unit.path), changes)
        self._ids[unit.id] = None

    def rewrite(self, path: str, change: Callable[[str], str]) -> str:
        """Change the text of a settings file; returns it as it is then. Raises Conflict for a file that is no text."""
        text = self._text(path)
        made = change(text)
        if made != text:
            bom = codecs.BOM_UTF8 if (self.read(path) or b"").startswith(codecs.BOM_UTF8) else b""
            self._put(path, bom + made.encode())
            self._carried.add(path)
        return made

    # ---- files -------------------------------------------------------------------------------------------

    def settings(self, unit: Unit) -> Settings:
        """What the settings file says now. Raises Conflict for a file that is no good."""
        self._check(unit)
        path = settings_of(unit.path)
        return _no_good(lambda: settings.parse(self._text(path), path))

    def on_disk(self, unit: Unit) -> Unit:
        """The unit with what its settings file says now. Raises UnknownFunction when its source is gone."""
        self._check(unit)
        try:
            if self.read(unit.path) is None:
                raise UnknownFunction(f"there is no function {unit.id!r}")
            return replace(unit, settings=self.settings(unit), settings_known=True)
        except Conflict:
            return replace(unit, settings=Settings(), settings_known=False)

    def read(self, path: str) -> bytes | None:
        """What a file holds now, as far as this edit has not changed it."""
        for made in (self._after, *self._earlier):
            if path in made:
                return made[path]
        if path not in self._before:
            try:
                self._before[path] = files.load(self._root, path, TOTAL_BYTES).data
            except files.Vanished:
                self._before[path] = None
            except SourceError as exc:
                raise Conflict(f"{exc.problem}", hint=exc.problem.hint) from exc
        return self._before[path]

    def _put(self, path: str, content: bytes | None) -> None:
        self.read(path)
        self._after[path] = content

    def _put_source(self, path: str, text: str, tried: bool) -> None:
        data = encoded(text)
        now = self.read(path)
        # Clients do not see a BOM, so it stays where they leave the text as it is.
        if now is None or data.removeprefix(codecs.BOM_UTF8) != now.removeprefix(codecs.BOM_UTF8):
            self._put(path, data)
            if tried:
                self._sources.add(path)

    def _amend(self, path: str, changes: Mapping[str, Any]) -> None:
        from fnsync.source.amending import amended  # start time: ruamel.yaml

        text = self._text(path)
        made = _no_good(lambda: amended(text, changes, path)).encode()
        if made != text.encode():
            self._put(path, made or None)
            self._carried.add(path)

    def _text(self, path: str) -> str:
        data = self.read(path)
        return "" if data is None else _no_good(lambda: decode(data, path))

    def folder(self, path: str) -> set[str]:
        """The files on disk below a folder that are not ignored."""
        return set(discovery.walk(self._root, path).files)

    def own_files(self, unit: Unit) -> set[str]:
        """The files on disk that are a function's alone, its settings file among them."""
        folder = own_folder(unit.path)
        if folder is not None:
            return {*self.folder(folder), unit.path}
        settings_path = settings_of(unit.path)
        return {unit.path} if self.read(settings_path) is None else {unit.path, settings_path}


def checked_id(text: str) -> FunctionId:
    """The id that a client asks for, in lower case. Raises Invalid."""
    id = FunctionId(text.lower())
    if not text.isidentifier() or not id.isidentifier():
        raise Invalid(ID_RULE, param="id", hint=f"for example {discovery.like_id(text)}")
    if id.startswith("_"):
        raise Invalid("an id does not begin with _: such files are shared modules", param="id", hint=id.lstrip("_"))
    problem = discovery.bad_id(f"{id}.py")
    if problem is not None:
        raise Invalid(problem.message, param="id", hint=problem.hint)
    return id


def _described(id: FunctionId, content: Content) -> dict[str, Any]:
    """The settings that say name and meta, where the frontmatter does not say the same."""
    try:
        entries = frontmatter.parse(content.source).entries
    except SourceError:
        entries = Frontmatter().entries  # loading will tell what is wrong with it
    meta = {key: value for key, value in content.meta.items() if key not in COMPUTED and value is not None}
    if meta.get("description") == str(entries.get("description") or ""):
        del meta["description"]
    same = content.name in ("", str(entries.get("title") or id))
    return {"name": None if same else content.name, "meta": meta or None}


def encoded(text: str) -> bytes:
    """A source as its file holds it. Raises Invalid for what no file can hold, or for one that is too large."""
    try:
        data = text.encode()
    except UnicodeEncodeError as exc:
        raise Invalid("content: half of a surrogate pair cannot be saved", param="content") from exc
    if len(data) > SOURCE_BYTES:
        raise Invalid(f"content: {len(data):,} bytes, more than the {SOURCE_BYTES:,} of a source", param="content")
    return data


def _no_good(work: Callable[[], _T]) -> _T:
    """A settings file that cannot be read cannot be changed either: somebody has to mend it first."""
    try:
        return work()
    except SourceError as exc:
        problem = exc.problem
        raise Conflict(f"{problem}", hint=problem.hint or "correct the settings file first") from exc
