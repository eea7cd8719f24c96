"""The sections of the configuration about git: the repository and its remote, sources, webhooks, notifications."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fnsync.configvalues import (
    Bytes,
    GitUrl,
    HttpUrl,
    Interval,
    Many,
    Name,
    OptionalInterval,
    Prefix,
    ProjectPath,
    SecretReference,
    Section,
    Text,
)

#: Names a source may not have: they mean something else where sources are named.
TAKEN_NAMES = frozenset({"local", "repository"})
_CRON_FIELDS = 5
_PERCENT = re.compile(r"(\d{1,3})\s*%")


def _cron(value: str) -> str:
    from datetime import UTC, datetime

    from cronsim import CronSim, CronSimError  # start time

    if len(value.split()) != _CRON_FIELDS:
        raise ValueError("must be a cron expression of five fields: minute, hour, day, month, day of the week")
    try:
        CronSim(value, datetime.now(UTC))
    except CronSimError as exc:
        raise ValueError(f"must be a cron expression: {exc}") from None
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, LookupError):
        raise ValueError("must be a time zone, such as UTC or Europe/Berlin") from None
    return value


def _share(value: object) -> float:
    """`50%`, or a number from 0 to 1."""
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
        value = int(match[1]) / 100
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError("must be a share, such as 50%")
    return float(value)


def _inside(value: str) -> str:
    """A folder of a repository."""
    parts = value.replace("\\", "/").strip("/").split("/")
    if value.startswith(("/", "~")) or ".." in parts or ".git" in parts or "\0" in value:
        raise ValueError("must be a folder of the repository")
    return "/".join(part for part in parts if part not in ("", ".")) or "."


def _not_taken(value: str) -> str:
    if value in TAKEN_NAMES:
        raise ValueError(f"must be none of {', '.join(sorted(TAKEN_NAMES))}")
    return value


Share = Annotated[float, BeforeValidator(_share)]
SourceName = Annotated[Name, AfterValidator(_not_taken)]
Gate = Literal["each", "all"]


class Window(Section):
    """A time that begins whenever a cron expression says so."""

    cron: Annotated[Text, AfterValidator(_cron)]
    #: How long it lasts.
    duration: Interval
    timezone: Annotated[Text, AfterValidator(_zone)] = "UTC"


class Windows(Section):
    """When what was fetched may be applied. Deny goes above allow; without `allow` it is always allowed."""

    allow: Many[Window] = ()
    deny: Many[Window] = ()


class RepositoryConfig(Section):
    """The repository that the functions folder lies in."""

    remote: Text = "origin"
    #: None: the branch that is checked out.
    branch: Text | None = None
    #: How often the branch is pulled; None: never.
    pull: OptionalInterval = None
    #: Whether edits over the API are pushed.
    push: bool = False
    #: Where edits over the API go: a commit, a branch for review, or nowhere.
    write: Literal["commit", "branch", "deny"] = "commit"
    #: Whether a pull applies function by function, or only if all of the commit load.
    gate: Gate = "each"
    windows: Windows = Windows()


class GithubApp(Section):
    """A GitHub App that may read a repository."""

    id: Annotated[int, Field(gt=0)]
    installation: Annotated[int, Field(gt=0)]
    #: Its private key, PEM.
    key: SecretReference
    api: HttpUrl = "https://api.github.com"


class SourceAuth(Section):
    """How a source is fetched: one of token, password, ssh_key and github_app, or what git itself is set up with."""

    #: For HTTPS.
    token: SecretReference | None = None
    #: With `password`; with `token` where the host wants a certain name beside it.
    username: Text | None = None
    password: SecretReference | None = None
    #: A private key without a passphrase.
    ssh_key: SecretReference | None = None
    #: The hosts' keys, as ssh has them in a file; None: those that the server's user knows.
    known_hosts: ProjectPath | None = None
    github_app: GithubApp | None = None

    @model_validator(mode="after")
    def _one(self) -> SourceAuth:
        given = [name for name in ("token", "password", "ssh_key", "github_app") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"must have one of {' and '.join(given)} only")
        if self.password is not None and self.username is None:
            raise ValueError("must have a username beside the password")
        return self


class SourceVerify(Section):
    """What a source's commits must prove: a signature by one of these keys, of the commit or of the tag."""

    #: Files of public keys: as ssh has them, or as an allowed signers file.
    ssh: Many[ProjectPath] = ()
    #: Files of exported public keys.
    gpg: Many[ProjectPath] = ()


class SourceConfig(Section):
    """A git repository that is mirrored beside the local functions."""

    name: SourceName
    url: GitUrl
    #: Branch, tag, commit, or a range of versions over tags; None: the remote's default branch.
    ref: Text | None = None
    #: Folder in the repository that holds the functions.
    path: Annotated[Text, AfterValidator(_inside)] = "."
    #: Patterns of files below `path`, as in .gitignore; empty: all.
    include: Many[Text] = ()
    ignore: Many[Text] = ()
    #: Goes before the id of each function.
    prefix: Prefix = ""
    interval: Interval = 60.0
    #: Whether functions that left the repository are removed here.
    prune: bool = True
    #: Whether it is left as it is.
    suspend: bool = False
    gate: Gate = "each"
    windows: Windows = Windows()
    #: How many commits of history are fetched at first; 0: all.
    depth: Annotated[int, Field(ge=0)] = 1
    #: Whether only the contents that are needed are fetched.
    partial: bool = True
    submodules: bool = False
    lfs: bool = False
    auth: SourceAuth = SourceAuth()
    verify: SourceVerify = SourceVerify()


class SyncConfig(Section):
    """What holds for all syncs."""

    #: How many commits of a source are kept, for going back to.
    keep: Annotated[int, Field(ge=1, le=1_000)] = 5
    #: A sync that removes a greater share of the live functions of its source is held; 100%: none is.
    guard: Share = 0.5
    #: The most files and bytes of a source's commit.
    max_files: Annotated[int, Field(ge=1)] = 20_000
    max_size: Bytes = 512 * 1024**2
    #: How long a fetch may take.
    timeout: Interval = 120.0


class WebhookConfig(Section):
    """A sender of webhooks that is believed: it has syncs begin at `/api/webhooks/NAME`."""

    name: Name
    kind: Literal["github", "gitlab", "gitea", "generic"]
    secret: SecretReference
    #: Sources, and `repository`; None: those whose URL is in the message.
    triggers: Many[Text] | None = None


class NotificationConfig(Section):
    """Where it is told what became of syncs."""

    name: Name
    url: HttpUrl
    #: What messages are signed with; None: they are not.
    secret: SecretReference | None = None
    #: Globs over the names of events.
    events: Many[Text] = ("sync.*",)

    @model_validator(mode="after")
    def _without_user(self) -> NotificationConfig:
        if urlsplit(self.url).username:
            raise ValueError("must not hold a user in its url")
        return self
