"""The core vocabulary as small typed values; no I/O.

The words are those of the design: function, source file, settings file, revision, snapshot, manifest.
Paths inside values are POSIX paths relative to the functions folder unless a name says otherwise; those of a source
(git) are `NAME:PATH`, relative to its tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NewType

FunctionId = NewType("FunctionId", str)
#: Content hash (64 hex digits) over everything a function consists of; settings are not part of it.
Revision = NewType("Revision", str)
#: Full hash of a git commit (40 hex digits, or 64).
CommitId = NewType("CommitId", str)
#: How many digits of a commit stand where people read it.
SHOWN_DIGITS = 12

#: Names the local functions folder, beside the names of sources.
LOCAL = "local"
#: Names the local repository, where it is pulled and followed as sources are.
REPOSITORY = "repository"


class Kind(StrEnum):
    """What a function is; decided by the name of its class."""

    PIPE = "pipe"
    FILTER = "filter"
    ACTION = "action"
    EVENT = "event"
    PIPELINE = "pipeline"


class Status(StrEnum):
    """What a function's newest files have come to."""

    READY = "ready"
    LOADING = "loading"
    #: An older revision serves, the newest failed.
    STALE = "stale"
    FAILED = "failed"
    INACTIVE = "inactive"
    CONFLICT = "conflict"


#: Class name in a source file -> kind, in the order of precedence.
CLASS_KINDS: Mapping[str, Kind] = {
    "Pipe": Kind.PIPE,
    "Filter": Kind.FILTER,
    "Action": Kind.ACTION,
    "Event": Kind.EVENT,
    "Pipeline": Kind.PIPELINE,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a function's files, where, and the way out."""

    code: str
    message: str
    #: File the problem is in; relative to the functions folder.
    path: str | None = None
    #: From 1.
    line: int | None = None
    #: From 1.
    column: int | None = None
    #: The source line itself, without its line ending.
    text: str | None = None
    hint: str | None = None
    #: The traceback's entries that lie in the function's own files, outermost first.
    traceback: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """`path:line:column`, as far as known."""
        return ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


@dataclass(frozen=True, slots=True)
class Handler:
    """A method that callers reach: `pipe`, `pipes`, `inlet`, `outlet`, `stream`, `action`, …"""

    name: str
    line: int
    is_async: bool = False
    is_generator: bool = False
    #: Parameter names without `self`, in order.
    parameters: tuple[str, ...] = ()
    var_keyword: bool = False


@dataclass(frozen=True, slots=True)
class ValvesField:
    """One field of a Valves or UserValves class, as far as its source text tells."""

    name: str
    #: Source text of the annotation.
    annotation: str | None
    line: int
    #: Whether `default` is known; false also for defaults that only running the code reveals.
    literal: bool = False
    default: Any = None
    required: bool = False
    description: str | None = None
    #: Typed SecretStr, a password input, or named like a key, token, password or secret.
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Misfit:
    """A value that does not fit the field of a Valves or UserValves class it is for."""

    #: Names with dots between them (`inner.port`); the class's own name where the values do not fit together.
    field: str
    #: What is wrong with it; never the value itself.
    message: str
    #: Whether that is all: a required value which is not there.
    missing: bool = False

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's module."""

    module: str
    line: int
    #: local: helper beside main.py; shared: a `_name` under functions/.
    origin: Literal["local", "shared", "standard", "third_party"]
    #: Under TYPE_CHECKING, in a try block that catches ImportError, or inside a function.
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the syntax tree of a source file tells; nothing of it was executed."""

    kind: Kind | None = None
    class_line: int | None = None
    #: Names of all classes the file defines, for messages.
    classes: tuple[str, ...] = ()
    handlers: tuple[Handler, ...] = ()
    #: None: the class defines no Valves.
    valves: tuple[ValvesField, ...] | None = None
    user_valves: tuple[ValvesField, ...] | None = None
    imports: tuple[Import, ...] = ()


@dataclass(frozen=True, slots=True)
class Frontmatter:
    """Metadata of a source's first docstring, and the requirements of a PEP 723 block."""

    form: Literal["none", "line", "yaml"] = "none"
    entries: Mapping[str, Any] = field(default_factory=dict)
    #: From the frontmatter and the PEP 723 block together; PEP 508 strings, in order, without repeats.
    requirements: tuple[str, ...] = ()
    requires_python: str | None = None
    #: What imports of the function's files ask for and nobody declared.
    inferred: tuple[str, ...] = ()


#: What a mapping of one key among the valves of a settings file refers with.
REFERENCES = ("env", "secret")


def reference_of(value: Any) -> tuple[str, str] | None:
    """`("env", NAME)` or `("secret", TEXT)`, if a settings file means one by the value; other mappings are values."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    [(name, target)] = value.items()
    return (name, target) if name in REFERENCES and isinstance(target, str) else None


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit: `count` calls per `period_s` seconds."""

    count: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Quota:
    """How it stands with a rate limit after a call."""

    limit: int
    #: Calls that would pass now.
    remaining: int
    #: When one more will, seconds since the epoch.
    reset_at: float
    #: Whether the call was within the limit.
    taken: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits one function runs under, settings and defaults merged."""

    timeout_s: float = 60.0
    memory_bytes: int = 512 * 1024 * 1024
    #: Calls that run at once; as many again may wait.
    concurrency: int = 32
    workers: int = 1
    #: How long a worker without calls is kept.
    idle_s: float = 600.0
    #: Of all callers together, and of each.
    rate: Rate | None = None
    user_rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class LimitOverrides:
    """The `limits` of a settings file; None: the configuration's default holds."""

    timeout_s: float | None = None
    memory_bytes: int | None = None
    concurrency: int | None = None
    workers: int | None = None
    idle_s: float | None = None
    rate: Rate | None = None
    user_rate: Rate | None = None

    def over(self, defaults: Limits) -> Limits:
        """Return `defaults` with what is set here in its place."""
        return Limits(
            timeout_s=defaults.timeout_s if self.timeout_s is None else self.timeout_s,
            memory_bytes=defaults.memory_bytes if self.memory_bytes is None else self.memory_bytes,
            concurrency=defaults.concurrency if self.concurrency is None else self.concurrency,
            workers=defaults.workers if self.workers is None else self.workers,
            idle_s=defaults.idle_s if self.idle_s is None else self.idle_s,
            rate=defaults.rate if self.rate is None else self.rate,
            user_rate=defaults.user_rate if self.user_rate is None else self.user_rate,
        )


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a function; admins always may."""

    #: E-mail addresses.
    users: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a function's worker may reach."""

    network: bool = True
    write: tuple[str, ...] = ()
    #: Names of the server's environment variables that the worker gets to see.
    env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """A settings file's content."""

    #: None: not said; the configuration's default holds.
    active: bool | None = None
    is_global: bool = False
    #: Globs over model ids that a filter or action applies to.
    models: tuple[str, ...] = ()
    #: Plain values, `{"env": NAME}` or `{"secret": TEXT}`.
    valves: Mapping[str, Any] = field(default_factory=dict)
    #: None: everyone who has a token.
    access: Access | None = None
    limits: LimitOverrides = field(default_factory=LimitOverrides)
    permissions: Permissions = field(default_factory=Permissions)
    #: A filter that fails closed in every stage.
    required: bool = False
    #: The display name; None: the frontmatter's title.
    name: str | None = None
    #: What is told of the function, above the frontmatter: `description` and any other keys.
    meta: Mapping[str, Any] = field(default_factory=dict)
    #: Id of the user whose function it is alone; None: it is nobody's own.
    owner: str | None = None

    @property
    def references(self) -> frozenset[tuple[str, str]]:
        """All that they refer to (`reference_of`); a variable that is permitted is one, too."""
        named = (reference_of(value) for value in self.valves.values())
        variables = (("env", name) for name in self.permissions.env)
        return frozenset(variables).union(reference for reference in named if reference is not None)


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells a file apart from an edited one without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    #: False: the file changed while or just before it was read, so an equal stamp does not mean equal content.
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a revision: where it is on disk, where it goes in the snapshot, and its content's hash."""

    #: On disk, relative to the functions folder.
    path: str
    #: In the snapshot: `function/main.py` for the source, `function/…` for what lies beside it, `shared/…` for
    #: shared modules.
    place: str
    #: SHA-256 of the content, 64 hex digits.
    digest: str


@dataclass(frozen=True, slots=True)
class Unit:
    """One source file's claim to an id, with everything that reading it from disk told.

    `revision` is None and `problem` set when the files could not be read whole. A problem together with
    a revision means that the files were read but cannot be loaded (a syntax error, bad settings, no class).
    """

    id: FunctionId
    path: str
    revision: Revision | None
    parts: tuple[Part, ...] = ()
    settings_path: str | None = None
    settings: Settings = field(default_factory=Settings)
    #: False: the settings file is no good, and `settings` are the defaults, which nobody asked for.
    settings_known: bool = True
    frontmatter: Frontmatter = field(default_factory=Frontmatter)
    inspection: Inspection = field(default_factory=Inspection)
    problem: Problem | None = None
    #: Every file that was read or looked for, for telling changes; None: it was not there.
    stamps: Mapping[str, FileStamp | None] = field(default_factory=dict)
    #: Where the files are: `local`, or a source's name.
    source: str = LOCAL
    #: What the source puts before the id that the file has by itself.
    prefix: str = ""

    @property
    def entry(self) -> str:
        """The source's place in the snapshot; the same for all, so that a revision depends on no file name."""
        return "function/main.py"

    @property
    def name(self) -> str:
        return display_name(self.own_id, self.frontmatter, self.settings)

    @property
    def own_id(self) -> FunctionId:
        """The id without the source's prefix."""
        return FunctionId(self.id[len(self.prefix) :])

    @property
    def tag(self) -> str:
        """Tells the function's present state, code and settings, from any other; 32 hexadecimal digits."""
        return sha256(f"{self.revision}\n{self.settings!r}".encode(errors="surrogatepass")).hexdigest()[:32]


def display_name(id: FunctionId, frontmatter: Frontmatter, settings: Settings) -> str:
    """The name of the settings, else the frontmatter's title, else the id."""
    return settings.name or str(frontmatter.entries.get("title") or id)


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of one commit of a source, in a folder that nobody changes."""

    #: The source's name.
    source: str
    #: Goes before the id of each of its functions.
    prefix: str
    #: What `path` is in the commit.
    folder: Path
    commit: CommitId
    #: The repository that has the commit.
    repository: Path
    #: From the repository's root; `.` for that itself.
    path: str


@dataclass(frozen=True, slots=True)
class PipelineFacts:
    """What a Pipelines class says of itself, once its instance is made."""

    #: `pipe`, `manifold` or `filter`; a pipeline of another type is listed, but not called.
    type: str = "pipe"
    #: What it calls itself; None: nothing else than the function's id.
    id: str | None = None
    #: Of a filter, what its constructor gives: ids of models, `*` for all. None: its valves have no such field.
    targets: tuple[str, ...] | None = None
    priority: float = 0.0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What loading a revision revealed. A property of the revision, kept beside its snapshot."""

    kind: Kind
    #: The instance's `name` attribute: the prefix of a manifold's model names.
    name: str | None = None
    handlers: tuple[Handler, ...] = ()
    #: Whether the pipe has `pipes`, or the pipeline is of that type, and so is a manifold.
    manifold: bool = False
    #: JSON schemas; None: no such class.
    valves_schema: Mapping[str, Any] | None = None
    user_valves_schema: Mapping[str, Any] | None = None
    toggle: bool = False
    file_handler: bool = False
    icon: str | None = None
    #: An action's `actions` list.
    actions: tuple[Mapping[str, Any], ...] = ()
    #: Of kind `pipeline`.
    pipeline: PipelineFacts | None = None

    @property
    def told(self) -> bool:
        """Whether a worker told it; before that a manifest has its kind alone."""
        return self != Manifest(self.kind)

    def handler(self, name: str) -> Handler | None:
        """The handler of that name, if the function has it."""
        return next((handler for handler in self.handlers if handler.name == name), None)


@dataclass(frozen=True, slots=True)
class Touch:
    """What git knows of a function. Times in seconds since the epoch."""

    #: When its source file was created.
    created_at: int
    #: When any of its files was changed last, shared modules and settings too.
    updated_at: int
    #: The commit of that change.
    commit: CommitId
    #: Who created its source file: the user id in the commit's trailer, else the author's e-mail address.
    user_id: str
    #: The commit that made the function what it is: its source, the files beside it, its name and meta.
    version: CommitId | None = None


@dataclass(frozen=True, slots=True)
class GoodRevision:
    """The revision of a function that last loaded well; recorded beside the snapshots."""

    id: FunctionId
    revision: Revision
    #: The source file it was loaded from; tells which of two claims to an id is live.
    path: str
    #: The source's place in the snapshot.
    entry: str
    #: Name of the environment it loaded in.
    environment: str
    manifest: Manifest
    frontmatter: Frontmatter = field(default_factory=Frontmatter)
    #: The settings it worked with.
    settings: Settings = field(default_factory=Settings)
    #: Place in the snapshot -> path to show in tracebacks.
    shown: Mapping[str, str] = field(default_factory=dict)
    #: Its source (git) does not have it any more, and it stays: what git knew of it.
    left: Touch | None = None
    #: As in a unit.
    prefix: str = ""
    #: What git knew of it while it was the newest: its last commit, and when that was made (epoch seconds).
    commit: CommitId | None = None
    updated_at: int | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What makes a function one of a commit that is tried, and not the one that answers everybody."""

    commit: CommitId
    #: The function that does; None: there is none. Nothing that only a reference gives is given to a preview where the
    #: settings of this one do not refer to the same.
    live: LiveFunction | None = None

    @property
    def given(self) -> frozenset[tuple[str, str]]:
        """The references (`reference_of`) that may be replaced by what they stand for."""
        return frozenset() if self.live is None else self.live.settings.references

    def name(self, id: FunctionId) -> str:
        """What the processes, logs and limits of the function go by."""
        return f"{id}@{self.commit[:SHOWN_DIGITS]}"


@dataclass(frozen=True, slots=True)
class LiveFunction:
    """One function with the revision that answers its calls."""

    id: FunctionId
    name: str
    kind: Kind
    revision: Revision
    #: The source file, relative to the functions folder.
    path: str
    #: The source's place in the snapshot.
    entry: str
    manifest: Manifest
    frontmatter: Frontmatter
    settings: Settings
    limits: Limits
    active: bool
    #: Name of the environment its workers run in; `base` for the server's own.
    environment: str
    #: Seconds since the epoch.
    updated_at: int
    commit: CommitId | None = None
    #: Place in the snapshot -> path to show in tracebacks.
    shown: Mapping[str, str] = field(default_factory=dict)
    preview: Preview | None = None

    @property
    def runs_as(self) -> str:
        """What its processes, logs and limits go by: the id, of a preview with the commit behind it."""
        return self.id if self.preview is None else self.preview.name(self.id)


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """One row of the index: the specification's columns, and ours. Valves are as in the settings file."""

    id: FunctionId
    user_id: str
    name: str
    #: None while the kind is unknown (a source that cannot be parsed).
    type: Kind | None
    content: str
    #: `description`, `manifest` (the frontmatter), `toggle`.
    meta: Mapping[str, Any]
    valves: Mapping[str, Any]
    is_active: bool
    is_global: bool
    created_at: int
    updated_at: int
    path: str
    revision: Revision | None
    live_revision: Revision | None
    status: Status
    error: Problem | None
    #: Where the function comes from: `local`, or a source's name.
    source: str
    #: The last one that touched any of its files; None: git does not know it.
    commit: CommitId | None
    #: The other paths that claim the id.
    rivals: tuple[str, ...] = ()
    #: The commit that made the function what it is.
    version: CommitId | None = None
    #: Of the unit.
    tag: str = ""


#: What a user may: everything, what functions allow, or nothing before an admin has accepted them.
Role = Literal["admin", "user", "pending"]
#: The most that somebody may get by way of a chat server.
Ceiling = Literal["admin", "user"]


@dataclass(frozen=True, slots=True)
class RowSummary:
    """A row without its source text, for lists."""

    version: str | None
    id: FunctionId
    user_id: str
    type: str | None
    name: str
    #: JSON that is only passed on.
    meta: Any
    is_active: bool
    is_global: bool
    updated_at: int
    created_at: int
    #: `local`, or a source's name.
    source: str = LOCAL


@dataclass(frozen=True, slots=True)
class User:
    """Someone who calls."""

    id: str
    name: str
    email: str
    role: Role

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


def lesser(role: str, ceiling: Ceiling) -> Role:
    """The lesser of a claimed role and the ceiling; whoever claims none that is known is a user."""
    role = role.strip().lower()
    if role == "pending":
        return "pending"
    return "admin" if role == ceiling == "admin" else "user"
