"""What functions emit and ask, on its way to clients: feeds of chats, and questions that wait for answers.

A feed is a client that listens to one chat of one user; it gets what that user's calls emit in it. Nothing here
waits for a client: what a slow one does not take is dropped, and it is told how much.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fnsync.errors import NotFound, RateLimited

#: What may wait for one client: so many events, and bytes; one event may always wait.
MOST_WAITING = 1000
WAITING_BYTES = 1024 * 1024
#: How many feeds one user may have.
MOST_FEEDS = 256
#: The type of the event that tells how many were dropped, in `data.count`.
DROPPED = "events:dropped"
#: How many random bytes the id of a question is made of.
ID_BYTES = 18

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A chat of a user. Other users may have chats of the same id."""

    user: str
    chat: str


class EventQueue:
    """Frames that wait for a client; one reader."""

    def __init__(self, dropped: Callable[[int], bytes]) -> None:
        """`dropped`: makes the frame that tells how many were dropped."""
        self._make_dropped = dropped
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._waiter: asyncio.Future[None] | None = None
        #: Whether nobody reads it any more.
        self.closed = False

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._frames)

    def put(self, frame: bytes) -> bool:
        """Add a frame; returns whether there was room."""
        if self._frames and (len(self._frames) >= MOST_WAITING or self._size + len(frame) > WAITING_BYTES):
            self._dropped += 1
            return False
        if self._dropped:
            self._tell_dropped()
        self._frames.append(frame)
        self._size += len(frame)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return True

    def take(self) -> bytes:
        """Return all that waits, in order; empty when nothing does."""
        if self._dropped:
            self._tell_dropped()
        data = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        return data

    def news(self) -> asyncio.Future[None]:
        """Done as soon as something waits; one at a time."""
        if self._waiter is None or self._waiter.done():
            self._waiter = asyncio.get_running_loop().create_future()
        if self._frames and not self._waiter.done():
            self._waiter.set_result(None)
        return self._waiter

    def _tell_dropped(self) -> None:
        self._frames.append(self._make_dropped(self._dropped))
        self._dropped = 0


@dataclass(slots=True, eq=False)
class Question:
    """What a call asks while it waits for the answer."""

    #: Unguessable; it is what answers name.
    id: str
    place: Place
    answer: asyncio.Future[bytes]
    #: For feeds that come meanwhile; empty: it was asked elsewhere.
    frame: bytes = b""


@dataclass(slots=True, eq=False)
class Feed:
    """A client that listens."""

    place: Place
    queue: EventQueue = field(init=False)

    def __post_init__(self) -> None:
        self.queue = EventQueue(lambda count: feed_frame(self.place, None, dropped_event(count)))


class Hub:
    """The feeds and questions of one server."""

    def __init__(self, patience_s: float) -> None:
        """`patience_s`: how long a question waits for its answer."""
        self.patience_s = patience_s
        self._feeds: dict[Place, list[Feed]] = {}
        self._by_user: dict[str, int] = {}
        self._questions: dict[str, Question] = {}

    @contextmanager
    def subscribe(self, place: Place) -> Iterator[Feed]:
        """A feed of a chat for the time of the block; it begins with the questions that wait. Raises RateLimited."""
        if self._by_user.get(place.user, 0) >= MOST_FEEDS:
            raise RateLimited(f"{MOST_FEEDS} feeds of events are open already", retry_after_s=1.0)
        feed = Feed(place)
        self._feeds.setdefault(place, []).append(feed)
        self._by_user[place.user] = self._by_user.get(place.user, 0) + 1
        for question in self._questions.values():
            if question.frame and question.place == place:
                feed.queue.put(question.frame)
        try:
            yield feed
        finally:
            self._forget(feed)

    def _forget(self, feed: Feed) -> None:
        place = feed.place
        self._feeds[place].remove(feed)
        if not self._feeds[place]:
            del self._feeds[place]
        self._by_user[place.user] -= 1
        if not self._by_user[place.user]:
            del self._by_user[place.user]

    def is_heard(self, place: Place) -> bool:
        """Whether anybody listens there."""
        return place in self._feeds

    def publish(self, place: Place, frame: bytes) -> bool:
        """Hand a frame to the feeds of a chat; returns whether any of them had room for it."""
        heard = False
        for feed in self._feeds.get(place, ()):
            heard |= feed.queue.put(frame)
        return heard

    @contextmanager
    def question(self, place: Place) -> Iterator[Question]:
        """A question that can be answered for the time of the block."""
        question = Question(secrets.token_urlsafe(ID_BYTES), place, asyncio.get_running_loop().create_future())
        self._questions[question.id] = question
        try:
            yield question
        finally:
            del self._questions[question.id]

    def answer(self, user: str, id: str, data: bytes) -> None:
        """Answer a question of a user's own call, JSON. Raises NotFound for one that does not wait."""
        question = self._questions.get(id)
        if question is None or question.place.user != user or question.answer.done():
            raise NotFound("no call of yours waits for this answer: it was answered, or it ended")
        question.answer.set_result(data)


# ---- frames ------------------------------------------------------------------------------------------------


def feed_frame(place: Place, message: str | None, event: Event, call: str | None = None) -> bytes:
    """An event as feeds get it: in Open WebUI's envelope. `call`: the question that it is."""
    value: dict[str, Any] = {"chat_id": place.chat, "message_id": message, "data": event}
    return _frame(value, call)


def stream_frame(event: Event, call: str | None = None) -> bytes:
    """An event as it stands in the stream of a completion."""
    return _frame({"event": event}, call)


def _frame(value: dict[str, Any], call: str | None) -> bytes:
    if call is not None:
        value["call"] = call
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def dropped_event(count: int) -> Event:
    """The event that tells how many were dropped."""
    return {"type": DROPPED, "data": {"count": count}}
