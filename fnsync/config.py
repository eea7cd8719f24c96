"""`fnsync.yaml` and the `FNSYNC_*` variables as one frozen value.

Every key is optional. A bad key or value is a ConfigError that names the place (file and line, or the variable),
the key and what is allowed. Secrets are only ever references to environment variables, so that neither the file
nor the `repr` of a Config can give one away.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError
from pydantic_core import ErrorDetails

from fnsync.configgit import NotificationConfig, RepositoryConfig, SourceConfig, SyncConfig, WebhookConfig
from fnsync.configvalues import (
    Bytes,
    Email,
    HttpUrl,
    Interval,
    Many,
    ModelPrefix,
    Name,
    ProjectPath,
    RateLimit,
    Seconds,
    SecretReference,
    Section,
    Text,
    distinct_names,
)
from fnsync.errors import ConfigError
from fnsync.marks import Loc, Marked, MarkError
from fnsync.marks import read as read_marked
from fnsync.model import Ceiling, Limits, Rate

FILE_NAME = "fnsync.yaml"
#: Names the configuration file, where `-C` (`--config`) does not.
FILE_VARIABLE = "FNSYNC_CONFIG"
#: `FNSYNC_SERVER__PORT` sets `server.port`.
VARIABLE_PREFIX = "FNSYNC_"
NESTING = "__"
#: Variables with the prefix that are no configuration keys.
OTHER_VARIABLES = frozenset({FILE_VARIABLE, "FNSYNC_ADMIN_TOKEN", "FNSYNC_SECRET_KEY", "FNSYNC_TOKEN"})


# ---- the sections ----------------------------------------------------------------------------------------


class ServerConfig(Section):
    """Where the server listens, and what it takes from a client."""

    host: Text = "127.0.0.1"
    #: 0: any free port.
    port: Annotated[int, Field(ge=0, le=65535)] = 8470
    #: Largest request body.
    max_body: Bytes = 64 * 1024**2
    #: Largest head of a request: its line and all headers together.
    max_header: Bytes = 64 * 1024
    #: How long running calls may go on at a stop.
    drain: Seconds = 30.0
    #: How long `__event_call__` waits for a client's answer.
    event_call_timeout: Interval = 60.0


class Defaults(Section):
    """What holds for functions whose settings file does not say otherwise."""

    active: bool = True
    timeout: Interval = 60.0
    memory: Bytes = 512 * 1024**2
    #: Calls of one function that run at once; as many again may wait.
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 32
    #: Most workers of one function.
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    #: How long a worker without calls is kept.
    idle: Seconds = 600.0
    sandbox: Literal["standard", "off"] = "standard"


class WatchConfig(Section):
    """How changes of files are found."""

    #: How often the functions folder is compared with what is known, in case an event was lost.
    rescan: Interval = 10.0


class RuntimeConfig(Section):
    """What all functions together may take."""

    #: Most workers without calls that are kept, all functions together.
    idle_workers: Annotated[int, Field(ge=0, le=100_000)] = 32


class AccessConfig(Section):
    """Who may use something; admins always may."""

    #: E-mail addresses.
    users: Many[Email] = ()
    roles: Many[Literal["admin", "user"]] = ()


class UpstreamConfig(Section):
    """A provider whose models pass through."""

    name: Name
    kind: Literal["openai", "ollama"]
    url: HttpUrl
    key: SecretReference | None = None
    #: Goes before the id of each model.
    prefix: ModelPrefix = ""
    #: Globs over the provider's own ids; None: all are allowed.
    allow: Many[Text] | None = None
    deny: Many[Text] = ()
    #: Who may use its models; None: everyone who may call.
    access: AccessConfig | None = None
    #: How long an answer may take to begin, and each pause in it.
    timeout: Interval = 300.0
    #: After how long the list of models is fetched anew.
    refresh: Interval = 60.0
    #: How long a list is used if there is no newer one.
    cache: Interval = 600.0


class JwtConfig(Section):
    """The signed tokens of a chat server that are accepted."""

    #: What it signs its users' login tokens with.
    secret: SecretReference
    #: What it signs X-OpenWebUI-User-Jwt with; None: the same.
    forwarded_secret: SecretReference | None = None
    #: The most that such a token gives.
    ceiling: Ceiling = "user"


class AuthConfig(Section):
    """What users may do, and how they say who they are."""

    #: Whether users without the admin role may make functions.
    user_functions: bool = False
    #: Whether a chat server with a service token may say in headers which of its users calls.
    forwarded_user_headers: bool = True
    #: Roles that may call functions as of any ref (`id@ref`), besides admins.
    preview: Many[Literal["admin", "user"]] = ()
    #: None: no signed tokens of a chat server are accepted.
    jwt: JwtConfig | None = None


class RateLimits(Section):
    """What is counted; None: unlimited."""

    #: Calls of each user with that role.
    user: RateLimit = None
    admin: RateLimit = None
    #: Calls of single users, by e-mail address, whatever their role.
    users: Annotated[dict[Email, RateLimit], Field(max_length=10_000)] = {}
    #: Wrong tokens from one address.
    logins: RateLimit = Rate(count=20, period_s=60.0)


class ImportPolicy(Section):
    """What functions may import."""

    #: Modules that no function may import.
    deny: Many[Text] = ()


class RequirementsPolicy(Section):
    """What functions may have installed."""

    #: Whether requirements of functions are installed at all.
    install: bool = True
    #: Package index to install from; None: uv's own default.
    index: HttpUrl | None = None
    #: The only packages that may be installed; None: any.
    allow: Many[Text] | None = None
    #: Whether packages that functions import without declaring them are installed, as far as they are known.
    infer: bool = True


class Policy(Section):
    """What functions may do, whatever their settings say."""

    imports: ImportPolicy = ImportPolicy()
    requirements: RequirementsPolicy = RequirementsPolicy()


class Config(Section):
    """All of the configuration. `functions` and `data` are absolute."""

    server: ServerConfig = ServerConfig()
    functions: ProjectPath = Field(default=Path("functions"), validate_default=True)
    #: Index, state, snapshots, environments and mirrors.
    data: ProjectPath = Field(default=Path(".fnsync"), validate_default=True)
    defaults: Defaults = Defaults()
    watch: WatchConfig = WatchConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    repository: RepositoryConfig = RepositoryConfig()
    sources: Annotated[Many[SourceConfig], AfterValidator(distinct_names)] = ()
    sync: SyncConfig = SyncConfig()
    webhooks: Annotated[Many[WebhookConfig], AfterValidator(distinct_names)] = ()
    notifications: Annotated[Many[NotificationConfig], AfterValidator(distinct_names)] = ()
    upstreams: Annotated[Many[UpstreamConfig], AfterValidator(distinct_names)] = ()
    auth: AuthConfig = AuthConfig()
    rate_limits: RateLimits = RateLimits()
    policy: Policy = Policy()

    _root: Path = PrivateAttr(default_factory=Path.cwd)
    _file: Path | None = PrivateAttr(default=None)

    @property
    def root(self) -> Path:
        """Absolute folder of the configuration file."""
        return self._root

    @property
    def file(self) -> Path | None:
        """Where the configuration is read from, be it there or not; absolute. None: from no file."""
        return self._file

    @property
    def limits(self) -> Limits:
        """What functions run under whose settings file sets no limits."""
        return Limits(
            timeout_s=self.defaults.timeout,
            memory_bytes=self.defaults.memory,
            concurrency=self.defaults.concurrency,
            workers=self.defaults.workers,
            idle_s=self.defaults.idle,
        )

    def model_post_init(self, context: Any) -> None:
        """Take over the folder that paths were resolved against."""
        if context and "root" in context:
            self._root = context["root"]


# ---- reading ---------------------------------------------------------------------------------------------


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Return the configuration of a file and the variables over it. Raises ConfigError.

    Without `path`, FNSYNC_CONFIG names the file; without that, it is the nearest `fnsync.yaml` in the current folder
    or above it, as far as the git repository goes. If there is none, the defaults hold for the current folder.
    """
    named = path or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    file = named or nearest_file(Path.cwd())
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as exc:
        if named:
            raise ConfigError(f"{file}: there is no such file", hint="fnsync init DIR makes a project") from exc
        text = ""
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file}: is not UTF-8 (byte {exc.start})") from exc
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read: {exc.strerror}") from exc
    # What the search put in to lead upwards is taken out, so that paths read as one would write them.
    root = file.absolute().parent if named else Path(os.path.abspath(file)).parent
    config = parse(text, environ, root=root, name=str(file))
    config._file = root / file.name
    return config


def nearest_file(folder: Path) -> Path:
    """Return the `fnsync.yaml` of `folder` or of one above it, as relative to `folder`, whether it is there or not.

    The search ends at the folder of a git repository; where there is none, at the root of the file system.
    """
    up = Path()
    for place in (folder, *folder.parents):
        if (place / FILE_NAME).exists():
            return up / FILE_NAME
        if (place / ".git").exists():
            break
        up /= ".."
    return Path(FILE_NAME)


def parse(text: str, environ: Mapping[str, str], *, root: Path, name: str = FILE_NAME) -> Config:
    """Return the configuration that `text` and the variables make. Raises ConfigError; `name` is the file's in it."""
    try:
        marked = read_marked(text)
    except MarkError as exc:
        raise ConfigError(f"{name}:{exc.line or 1}: {exc.message}") from exc
    if not isinstance(marked.data, dict | None):
        raise ConfigError(f"{name}:1: must consist of keys: {', '.join(Config.model_fields)}")
    # A section whose keys are all commented out reads as null.
    data = {key: value for key, value in (marked.data or {}).items() if value is not None}
    variables = _override(data, environ)
    try:
        return Config.model_validate(data, context={"root": root})
    except ValidationError as exc:
        errors = sorted(
            exc.errors(include_url=False, include_input=False), key=lambda one: marked.line(one["loc"]) or 0
        )
        found = [_message(error, _place(error["loc"], name, marked, variables)) for error in errors]
        raise ConfigError("\n".join(found)) from exc


def _override(data: dict[str, Any], environ: Mapping[str, str]) -> dict[Loc, str]:
    """Set in `data` what variables say; return which variable set which key. Raises ConfigError."""
    set_by: dict[Loc, str] = {}
    for variable in sorted(environ):  # so that FNSYNC_SERVER comes before FNSYNC_SERVER__PORT
        rest = variable.removeprefix(VARIABLE_PREFIX)
        # Others with the prefix are none of ours; Kubernetes sets FNSYNC_PORT for a service named fnsync.
        ours = rest != variable and (NESTING in rest or rest.lower() in Config.model_fields)
        if not ours or variable in OTHER_VARIABLES or not environ[variable]:
            continue
        loc = tuple(rest.lower().split(NESTING))
        *parents, last = loc
        if parents and _is_list(loc[0]):
            whole = VARIABLE_PREFIX + loc[0].upper()
            raise ConfigError(f"{variable}: {loc[0]} is a list and can only be set whole, with {whole}='[...]'")
        inner: Any = data
        for parent in parents:
            inner = inner.setdefault(parent, {}) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[last] = _variable_value(environ[variable])
            set_by[loc] = variable
    return set_by


def _is_list(key: str) -> bool:
    return key in Config.model_fields and get_origin(Config.model_fields[key].annotation) is tuple


def _variable_value(text: str) -> Any:
    """Read a YAML scalar or flow collection; what is neither is taken as text."""
    try:
        value = read_marked(text).data
    except MarkError:
        return text
    is_flow = text.lstrip().startswith(("{", "["))
    return value if isinstance(value, str | int | float) or is_flow or value is None else text


# ---- messages --------------------------------------------------------------------------------------------


def _place(loc: Loc, name: str, marked: Marked, variables: Mapping[Loc, str]) -> str:
    """The variable or the file and line that a value comes from."""
    for end in range(len(loc), 0, -1):
        if loc[:end] in variables:
            return variables[loc[:end]]
        if loc[:end] in marked.lines:
            return f"{name}:{marked.line(loc)}"
    below = [variable for key, variable in variables.items() if key[: len(loc)] == loc]
    if below:  # a section that only variables speak of
        return below[0]
    return f"{name}:{marked.line(loc) or 1}"


def _message(error: ErrorDetails, place: str) -> str:
    """One line: place, key, what is wrong and what is allowed. Never the value, which may be a secret."""
    loc, kind, context = error["loc"], error["type"], error.get("ctx", {})
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if kind in ("extra_forbidden", "invalid_key"):
        return f"{place}: {key}: unknown key; {_nearest(str(loc[-1]), _known_keys(loc[:-1]))}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{place}: {key}: must have keys of its own: {', '.join(_known_keys(loc))}"
    if kind == "value_error":
        return f"{place}: {key}: {context['error']}"
    reason = _REASONS.get(kind)
    return f"{place}: {key}: {reason.format(**context) if reason else error['msg'].lower()}"


#: pydantic's error type -> what is allowed.
_REASONS: Mapping[str, str] = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "string_type": "must be text (put it in quotes)",
    "string_too_short": "must not be empty",
    "tuple_type": "must be a list",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "string_pattern_mismatch": "must consist of lower-case letters, digits and _, and begin with a letter",
}


def _nearest(key: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _known_keys(loc: Loc) -> tuple[str, ...]:
    """The keys of the section at `loc`."""
    section: type[Section] = Config
    for part in loc:
        if isinstance(part, str) and part in section.model_fields:
            section = _section_in(section.model_fields[part].annotation) or section
    return tuple(section.model_fields)


def _section_in(annotation: Any) -> type[Section] | None:
    """The section class that an annotation such as `tuple[SourceConfig, ...]` is about."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)
