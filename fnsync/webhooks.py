"""What code hosts tell of pushes, and which syncs begin for it.

A message only ever says that there may be something new: what there is, the sync finds out itself. So one that is
repeated, or of a repository that is named by mistake, costs a fetch at the worst.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec

from fnsync.configgit import WebhookConfig
from fnsync.errors import ConfigError, Invalid
from fnsync.git.identity import identity
from fnsync.signatures import Headers, Kind, Scheme, Signed, scheme

#: How long a delivery is remembered, and how many are, of all webhooks together.
REMEMBERED_S = 24 * 3600.0
MOST_REMEMBERED = 10_000
#: So many refs of one message are looked at.
MOST_REFS = 100
#: What the results of a message are called in the metrics.
ACCEPTED, IGNORED, REPLAYED, REFUSED, INVALID = "accepted", "ignored", "replayed", "refused", "invalid"
RESULTS = (ACCEPTED, IGNORED, REPLAYED, REFUSED, INVALID)

_HEADS, _TAGS = "refs/heads/", "refs/tags/"
#: What tells a range of versions from a branch, a tag or a commit.
_RANGE = re.compile(r"[<>=^~*|,\s]|^v?\d+(\.(\d+|[xX]))*$")
_EVENTS = (b"x-github-event", b"x-forgejo-event", b"x-gitea-event")
#: Where hosts name a repository in what they tell of it.
_REPOSITORIES = ("repository", "project")
_ADDRESSES = (
    "clone_url",
    "ssh_url",
    "git_url",
    "html_url",
    "url",
    "git_http_url",
    "git_ssh_url",
    "http_url",
    "web_url",
    "homepage",
)


@dataclass(frozen=True, slots=True)
class Followed:
    """What a sync can begin for: a source, or `repository`."""

    name: str
    #: None: not known yet.
    url: str | None
    #: Branch, tag, commit or range of versions; None: the remote's default branch.
    ref: str | None


class Triggers(Protocol):
    """What webhooks have begin."""

    def followed(self) -> Sequence[Followed]:
        """Everything that is followed now."""

    def ask(self, name: str) -> None:
        """Have the sync of one begin now, or when the one that runs has ended; never waits."""


@dataclass(frozen=True, slots=True)
class Push:
    """What a message says of a repository."""

    #: The repository; see `git.identity`. Empty: it does not say.
    repository: frozenset[str] = frozenset()
    #: In full; empty: it does not say.
    refs: tuple[str, ...] = ()
    default_branch: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message."""

    triggered: tuple[str, ...] = ()
    #: Why nothing was.
    ignored: str | None = None


class Deliveries:
    """The deliveries that had something begin. On the loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: In the order in which they came.
        self._known: dict[bytes, float] = {}

    def __contains__(self, key: bytes) -> bool:
        at = self._known.get(key)
        return at is not None and self._clock() - at <= REMEMBERED_S

    def add(self, key: bytes) -> None:
        """Remember one; those that are too old, or too many, are forgotten."""
        now = self._clock()
        self._known.pop(key, None)  # so that it goes to the end
        self._known[key] = now
        while True:
            oldest = next(iter(self._known))
            if len(self._known) <= MOST_REMEMBERED and now - self._known[oldest] <= REMEMBERED_S:
                return
            del self._known[oldest]


class Webhook:
    """One sender that is believed."""

    def __init__(self, config: WebhookConfig, environ: Mapping[str, str]) -> None:
        """Raises ConfigError for a secret that is not there, or is none for that kind."""
        self.config = config
        secret = config.secret.value(environ)
        try:
            self.scheme: Scheme = scheme(config.kind, secret)
        except ValueError as exc:
            raise ConfigError(f"webhooks: the secret of {config.name} {exc}") from exc
        #: Of the secret, to remember from where it was right.
        self.digest = hashlib.sha256(f"webhook {config.name} {secret}".encode()).digest()


class Webhooks:
    """All senders that are believed, and what they have said. On the loop."""

    def __init__(self, configs: Iterable[WebhookConfig], environ: Mapping[str, str], triggers: Triggers) -> None:
        """Raises ConfigError for secrets that are not there."""
        self._webhooks = {config.name: Webhook(config, environ) for config in configs}
        self._triggers = triggers
        self._deliveries = Deliveries()
        #: Messages by webhook and result (see RESULTS).
        self.counts: Counter[tuple[str, str]] = Counter()

    def find(self, name: str) -> Webhook | None:
        """The sender of that name."""
        return self._webhooks.get(name)

    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._webhooks)

    def take(self, webhook: Webhook, signed: Signed, told: Push | str) -> Outcome:
        """Have those syncs begin that a message concerns. `told`: what `read` made of it."""
        name = webhook.config.name
        key = None if signed.delivery is None else hashlib.sha256(webhook.digest + signed.delivery).digest()
        if key is not None and key in self._deliveries:
            self.counts[name, REPLAYED] += 1
            return Outcome(ignored="this delivery was taken before")
        outcome = Outcome(ignored=told) if isinstance(told, str) else self._concerned(webhook.config.triggers, told)
        for one in outcome.triggered:
            self._triggers.ask(one)
        if key is not None and outcome.triggered:
            self._deliveries.add(key)
        self.counts[name, ACCEPTED if outcome.triggered else IGNORED] += 1
        return outcome

    def _concerned(self, triggers: Sequence[str] | None, push: Push) -> Outcome:
        followed = self._triggers.followed()
        if triggers is None:
            return concerned(push, followed)
        there = {one.name for one in followed}
        found = tuple(name for name in dict.fromkeys(triggers) if name in there)
        return Outcome(found, None if found else "nothing that `triggers` names is followed")


def concerned(push: Push, followed: Iterable[Followed]) -> Outcome:
    """Those of `followed` that a push may have brought something new for."""
    if not push.repository:
        return Outcome(ignored="the message names no repository; `triggers` may say what begins")
    same = [one for one in followed if one.url is None or identity(one.url) in push.repository]
    if not same:
        return Outcome(ignored="no repository that is followed has one of the addresses in the message")
    found = tuple(one.name for one in same if not push.refs or any(follows(one.ref, ref, push) for ref in push.refs))
    return Outcome(found, None if found else f"nobody follows {', '.join(push.refs[:3])} of this repository")


def follows(ref: str | None, pushed: str, push: Push) -> bool:
    """Whether a push of the ref `pushed` may be new to who follows `ref`."""
    if ref is None:
        return pushed == _HEADS + push.default_branch if push.default_branch else pushed.startswith(_HEADS)
    if pushed in (ref, _HEADS + ref, _TAGS + ref):
        return True
    return pushed.startswith(_TAGS) and _RANGE.search(ref) is not None


# ---- what a message says -----------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    """What is read of a message; the rest, such as the commits, is passed over."""

    ref: Any = None
    ref_type: Any = None
    refs: Any = None
    event: Any = None
    object_kind: Any = None
    event_name: Any = None
    url: Any = None
    repository: Any = None
    project: Any = None


def read(kind: Kind, headers: Headers, body: bytes) -> Push | str:
    """What a message says of a repository, or why nothing follows from it. Raises Invalid for what is no message."""
    message = _decoded(headers, body)
    event = _event(kind, headers, message)
    if event == "ping":
        return "pong: the webhook is set up right"
    if event not in ("push", "create"):
        return f"nothing begins for {event[:100]}"
    found = message.refs if isinstance(message.refs, list) else [message.ref]
    refs = [ref for ref in found[:MOST_REFS] if isinstance(ref, str) and ref]
    return Push(
        frozenset(_identities(message)),
        tuple(full for ref in refs for full in _full(ref, message.ref_type)),
        _default_branch(message),
    )


def _decoded(headers: Headers, body: bytes) -> _Message:
    """The body as JSON, or in the field `payload` of a form, which some hosts can send too."""
    if headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
        try:
            fields = parse_qs(body.decode(), max_num_fields=8)
        except ValueError as exc:
            raise Invalid("the body is no form that can be read") from exc
        body = fields.get("payload", [""])[0].encode()
    if not body.strip():
        return _Message()
    try:
        return msgspec.json.decode(body, type=_Message)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise Invalid(f"the body is no JSON object: {exc}") from exc


def _event(kind: Kind, headers: Headers, message: _Message) -> str:
    """`push`, `create` (of a branch or tag), `ping`, or the sender's own name for anything else."""
    if kind == "gitlab":
        said = message.object_kind or message.event_name
        if said in ("push", "tag_push", "repository_update"):
            return "push"
        return said if isinstance(said, str) else "a message without an event"
    if kind == "generic":
        # What a fnsync tells: all of it is about a repository, but for a try.
        return "ping" if message.event == "sync.test" else "push"
    return next((headers[name].decode("latin-1") for name in _EVENTS if name in headers), "push")


def _identities(message: _Message) -> Iterator[str]:
    texts: list[Any] = [message.url]
    for name in _REPOSITORIES:
        value = getattr(message, name)
        texts += [value.get(key) for key in _ADDRESSES] if isinstance(value, dict) else [value]
    for text in texts:
        found = identity(text) if isinstance(text, str) else None
        if found is not None:
            yield found


def _full(ref: str, kind: Any) -> tuple[str, ...]:
    if ref.startswith("refs/"):
        return (ref,)
    return {"branch": (_HEADS + ref,), "tag": (_TAGS + ref,)}.get(kind, (_HEADS + ref, _TAGS + ref))


def _default_branch(message: _Message) -> str | None:
    for name in _REPOSITORIES:
        value = getattr(message, name)
        found = value.get("default_branch") if isinstance(value, dict) else None
        if isinstance(found, str) and found:
            return found
    return None
