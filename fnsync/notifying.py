"""Tells others what became of syncs: each receiver has a queue of its own, is told in order, and holds up nobody."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

import structlog

from fnsync.configgit import NotificationConfig
from fnsync.notices import LIVE, TEST, Conditions, Failing, Notice, named, notice
from fnsync.posting import Answered, Poster
from fnsync.signatures import sign

#: Messages that wait for one receiver; above that the oldest is lost.
MOST_WAITING = 1_000
#: How long to wait before each further try, in seconds: ten minutes in all.
RETRY_S = (5.0, 30.0, 120.0, 450.0)
#: By which part each wait is shorter or longer.
JITTER = 0.2
#: The longest that a receiver can ask to wait.
LONGEST_S = 900.0
#: How long a stop waits for what is on its way.
DRAIN_S = 3.0
#: Events of one source that wait until its functions have loaded, and how long they do.
MOST_HEARD = 100
SETTLE_S = 300.0
#: What the results are called in the metrics.
DELIVERED, GIVEN_UP, DROPPED = "delivered", "given_up", "dropped"

log = structlog.get_logger(__name__)


class Receiver:
    """One address that is told. On the loop."""

    def __init__(
        self,
        config: NotificationConfig,
        environ: Mapping[str, str],
        poster: Poster,
        version: str,
        counts: Counter[tuple[str, str]],
        retry_s: Sequence[float],
    ) -> None:
        """Raises ConfigError for a secret that is not there."""
        self.name = config.name
        self._config = config
        self._secret = None if config.secret is None else config.secret.value(environ)
        self._poster = poster
        self._version = version
        self._counts = counts
        self._retry_s = retry_s
        self._waiting: deque[Notice] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._lost = 0
        #: What the last try came to, if it was no good, and since when none was.
        self._error: str | None = None
        self._failing_since: float | None = None

    def wants(self, event: str) -> bool:
        """Whether it is to be told of such events."""
        return any(fnmatchcase(event, pattern) for pattern in self._config.events)

    def put(self, told: Notice) -> None:
        """Have it told; never waits."""
        if len(self._waiting) >= MOST_WAITING:
            del self._waiting[1]  # the first is under way
            self._counts[self.name, DROPPED] += 1
            self._lost += 1
            if self._lost == 1:
                log.warning("notifications_lost", notification=self.name, reason=f"{MOST_WAITING} wait already")
        self._waiting.append(told)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"notifications of {self.name}")

    async def send(self, told: Notice) -> Answered:
        """Tell it now, once."""
        at = int(time.time())
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"fnsync/{self._version}",
            "x-fnsync-event": told.event,
            "x-fnsync-delivery": told.id,
        }
        if self._secret is not None:
            headers["x-fnsync-signature"] = sign(self._secret, told.body, at)
        return await self._poster.post(self._config.url, told.body, headers)

    def status(self) -> dict[str, Any]:
        """How it stands."""
        return {
            "name": self.name,
            "waiting": len(self._waiting),
            "error": self._error,
            "failing_since": self._failing_since,
        }

    async def close(self, patience_s: float) -> None:
        """Have what waits tried once more, for so long in all."""
        self._closing.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._waiting:
            count = len(self._waiting)
            log.warning("notifications_lost", notification=self.name, count=count, reason="the server stops")
            self._counts[self.name, DROPPED] += count

    async def _run(self) -> None:
        while self._waiting:
            try:
                await self._deliver(self._waiting[0])
            except Exception:  # one message must not end the queue
                log.exception("notification_broken", notification=self.name)
                self._counts[self.name, GIVEN_UP] += 1
            self._waiting.popleft()
        self._lost = 0

    async def _deliver(self, told: Notice) -> None:
        """Try until it is taken, or the tries are used up."""
        about = {"notification": self.name, "event_name": told.event, "delivery": told.id}
        for wait_s in (*self._retry_s, None):
            answered = await self.send(told)
            if answered.is_taken:
                self._counts[self.name, DELIVERED] += 1
                self._error = self._failing_since = None
                return
            self._error = str(answered)
            self._failing_since = self._failing_since or time.time()
            if wait_s is None or not answered.may_be_later or self._closing.is_set():
                break
            pause_s = max(wait_s * random.uniform(1 - JITTER, 1 + JITTER), answered.retry_after_s or 0.0)
            log.info("notification_retried", **about, error=self._error, wait_s=round(pause_s, 3))
            await self._pause(min(pause_s, LONGEST_S))
        self._counts[self.name, GIVEN_UP] += 1
        log.warning("notification_given_up", **about, error=self._error)

    async def _pause(self, seconds: float) -> None:
        """Wait for the next try; a stop does not wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


class Notifier:
    """Hears what is published of syncs, and tells all who want to know. On the loop."""

    def __init__(
        self,
        configs: Iterable[NotificationConfig],
        environ: Mapping[str, str],
        version: str,
        settled: Callable[[], Awaitable[None]],
        failing: Callable[[str], Sequence[Failing]],
        *,
        retry_s: Sequence[float] = RETRY_S,
        poster: Poster | None = None,
    ) -> None:
        """`settled` waits until what is being loaded has loaded or failed; `failing`: the functions of a source that do
        not load now. Raises ConfigError for secrets that are not there."""
        #: Messages by receiver and result.
        self.counts: Counter[tuple[str, str]] = Counter()
        self._poster = poster or Poster()
        self._receivers = {
            config.name: Receiver(config, environ, self._poster, version, self.counts, retry_s) for config in configs
        }
        self._settled = settled
        self._failing = failing
        self._conditions = Conditions()
        #: Source -> what was heard of it and is not told yet: name of the event, when, what was published with it.
        self._heard: dict[str, deque[tuple[str, float, Mapping[str, Any]]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def hear(self, event: str, data: Mapping[str, Any]) -> None:
        """Tell of an event that was published; never waits."""
        if not self._receivers or not event.startswith("sync."):
            return
        source = named(data)
        heard = self._heard.setdefault(source, deque(maxlen=MOST_HEARD))
        heard.append((event, time.time(), data))
        if source not in self._tasks:
            self._tasks[source] = asyncio.create_task(self._tell(source, heard), name=f"notices of {source}")

    async def test(self, name: str) -> Answered | None:
        """Send a message that says nothing, once, and return what came of it. None: there is no such receiver."""
        receiver = self._receivers.get(name)
        return None if receiver is None else await receiver.send(notice(TEST, time.time(), {}))

    def status(self) -> list[dict[str, Any]]:
        """How the receivers stand."""
        return [receiver.status() for receiver in self._receivers.values()]

    async def close(self, patience_s: float = DRAIN_S) -> None:
        """Have what was heard arrive, for a short while; nothing may be heard after this."""
        ends_at = time.monotonic() + patience_s
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s / 2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        left_s = max(0.0, ends_at - time.monotonic())
        await asyncio.gather(*(receiver.close(left_s) for receiver in self._receivers.values()))
        await self._poster.close()

    async def _tell(self, source: str, heard: deque[tuple[str, float, Mapping[str, Any]]]) -> None:
        try:
            while heard:
                try:
                    await self._tell_one(source, *heard.popleft())
                except Exception:  # one event must not end the rest
                    log.exception("notice_broken", source=source)
        finally:
            del self._tasks[source], self._heard[source]

    async def _tell_one(self, source: str, event: str, at: float, data: Mapping[str, Any]) -> None:
        failing: Sequence[Failing] = ()
        if event in LIVE:
            try:
                async with asyncio.timeout(SETTLE_S):
                    await self._settled()
            except TimeoutError:
                log.info("notice_early", source=source, event_name=event)
            failing = self._failing(source)
        self._post(notice(event, at, data, failing))
        turned = self._conditions.turned(event, data, failing)
        if turned is not None:
            name, error = turned
            self._post(notice(name, at, data, failing, error))

    def _post(self, told: Notice) -> None:
        for receiver in self._receivers.values():
            if receiver.wants(told.event):
                receiver.put(told)
