"""One call under way: its result or its stream, its time limit, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fnsync.deadlines import Deadlines
from fnsync.errors import (
    BodyTooLarge,
    FnsyncError,
    FunctionError,
    FunctionRaised,
    InvalidValves,
    LoadFailed,
    MemoryLimit,
    TimeLimit,
    Unrenderable,
    ValvesUnfit,
    WorkerDied,
)
from fnsync.model import Problem
from fnsync.runtime import valves, wire
from fnsync.runtime.asks import Asks, Listener
from fnsync.runtime.hosting import Host, Hosting
from fnsync.runtime.worker import Worker

#: Credit is given back in portions of this size, in bytes, so that it costs few frames.
CREDIT_BYTES = wire.STREAM_WINDOW_BYTES // 4
#: How long a worker may take to let go of a call that was ended, in seconds; then it is replaced.
GRACE_S = 2.0
#: Reason a worker is killed for when its memory is over the limit; its calls fail with MemoryLimit.
MEMORY_REASON = "memory limit"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What to call, and with what."""

    handler: str
    #: JSON of the first argument; empty: the handler is called without one.
    body: bytes = b""
    stream: bool = False
    #: Values for reserved arguments by name; or the same as JSON.
    context: Mapping[str, Any] | bytes = field(default_factory=dict)
    user_valves: Mapping[str, Any] = field(default_factory=dict)
    #: Whether emitted events are wanted among a stream's items, marked by wire.EMITTED.
    events: bool = False
    #: As in wire.Call.
    turn: int = 0
    #: Where they go otherwise, and what the function asks; None: nowhere.
    listener: Listener | None = None
    #: Who answers what the function asks of the server; None: nobody.
    host: Host | None = None
    #: Whether another call of the function waits for this one.
    inside: bool = False


class RunningCall:
    """A call in a worker. Ends in one of: a Reply, an End, an exception."""

    def __init__(self, id: int, function: str, invocation: Invocation, release: Callable[[bool], None]) -> None:
        self.id = id
        self.function = function
        self._invocation = invocation
        #: Called once with whether the worker survived the call.
        self._release: Callable[[bool], None] | None = release
        self._worker: Worker | None = None
        self._outcome: wire.Reply | wire.Begin | None = None
        self._items: list[str | bytes] = []
        self._size = 0
        self._taken = 0
        self._uncredited = 0
        self._error: FnsyncError | None = None
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadlines: Deadlines[RunningCall] | None = None
        self._grace: asyncio.TimerHandle | None = None
        #: Made when it first asks; most calls never do.
        self._asks: Asks | None = None
        #: Whether nobody waits for it any more, so that it may ask nothing.
        self._is_left = False
        #: Made when the function asks for something.
        self._hosting: Hosting | None = None

    # ---- for the caller ----

    async def first(self) -> wire.Reply | wire.Begin:
        """The result, or the news that a stream begins. Raises what ended the call before either."""
        while self._outcome is None:
            if self._error is not None:
                raise self._error
            await self._news()
        return self._outcome

    async def chunks(self) -> AsyncIterator[list[str | bytes]]:
        """After a Begin: the items as they come, all that wait together. Raises what ended the stream early."""
        while True:
            if self._items:
                items, size = self._items, self._size
                self._items, self._size = [], 0
                yield items
                self._credit(size)
            elif self._error is not None:
                raise self._error
            elif self._ended:
                return
            else:
                await self._news()

    async def _news(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _credit(self, size: int) -> None:
        """Tell the worker what the client has taken, so that it may send as much again."""
        self._taken += size
        if self._taken >= CREDIT_BYTES and not self._ended and self._worker is not None:
            self._worker.send(wire.Credit(self.id, self._taken))
            self._uncredited -= self._taken
            self._taken = 0

    # ---- for the pool ----

    def begin(self, worker: Worker, deadlines: Deadlines[RunningCall]) -> None:
        """Hand the call to a worker. Raises BodyTooLarge; the worker then knows nothing of it."""
        invocation = self._invocation
        context = invocation.context
        if not isinstance(context, bytes):
            context = msgspec.json.encode(context) if context else b""
        frame = wire.Call(
            self.id,
            invocation.handler,
            invocation.body,
            invocation.stream,
            context,
            dict(invocation.user_valves),
            invocation.events,
            invocation.turn,
            invocation.listener is not None,
        )
        try:
            worker.send(frame)
        except wire.WireError as exc:
            raise BodyTooLarge(f"the request cannot be handed to {self.function}: {exc}") from exc
        self._worker = worker
        worker.add_call(self)
        self._deadlines = deadlines
        deadlines.add(self)

    def abandon(self) -> None:
        """No worker got the call: give its place back."""
        self._ended = True
        self._release_once()

    def leave(self) -> None:
        """The caller is done with the call; what still runs is cancelled in the worker.

        A sync handler cannot be interrupted: it keeps its place until it ends or its time limit is over.
        """
        if not self._ended and self._worker is not None:
            self._items.clear()
            self._end_asks()
            self._worker.send(wire.Cancel(self.id))

    def on_time_limit(self, limit_s: float) -> None:
        """The call is over its time limit: the caller is told, the worker gets a while to let go."""
        self._fail(
            TimeLimit(
                f"{self.function} took longer than its time limit of {limit_s:g} s",
                hint="raise `limits: {timeout: …}` in the function's settings file, or make it faster",
            )
        )
        if self._worker is not None:
            self._end_asks()
            self._worker.on_overdue(self)
            self._worker.send(wire.Cancel(self.id))
        self._grace = asyncio.get_running_loop().call_later(GRACE_S, self._on_grace_over)

    def _on_grace_over(self) -> None:
        """The worker does not let go: new calls get another one, this one ends with its other calls."""
        if self._worker is not None and not self._ended:
            self._release_once()
            self._worker.give_up_on(self)

    # ---- from the worker ----

    def on_frame(self, frame: wire.FromWorker) -> None:
        match frame:
            case wire.Chunk():
                self._on_chunk(frame)
            case wire.Reply():
                self._outcome = self._outcome or frame
                self._finish()
            case wire.Begin():
                self._outcome = self._outcome or frame
                self._wake()
            case wire.End():
                self._finish()
            case wire.Failure():
                self._fail(error_of(self.function, frame))
                self._finish()
            case wire.Event():
                _check_size(frame.data)
                if self._invocation.listener is not None and not self._is_left:
                    self._invocation.listener.emit(frame.data)
            case wire.Ask():
                _check_size(frame.data)
                self._on_ask(frame)
            case wire.HostCall():
                self._on_host_call(frame)
            case wire.HostCredit():
                if self._hosting is not None:
                    self._hosting.on_credit(frame)
            case wire.HostCancel():
                if self._hosting is not None:
                    self._hosting.on_cancel(frame)

    def _on_ask(self, frame: wire.Ask) -> None:
        if self._worker is None or self._is_left:
            return
        if self._asks is None:
            self._asks = Asks(self._invocation.listener, self._worker.answer)
        self._asks.on_ask(frame)

    def _on_host_call(self, frame: wire.HostCall) -> None:
        if self._worker is None:
            return
        if self._hosting is None:
            self._hosting = Hosting(self.id, self._invocation.host, self._worker.answer)
            if self._is_left:
                self._hosting.close()
        self._hosting.on_call(frame)

    def _end_asks(self) -> None:
        self._is_left = True
        if self._asks is not None:
            self._asks.end()
        if self._hosting is not None:
            self._hosting.close()

    def _on_chunk(self, frame: wire.Chunk) -> None:
        self._add(frame.items)
        if self._uncredited > wire.STREAM_WINDOW_BYTES + wire.MAX_FRAME_BYTES and self._worker is not None:
            self._worker.kill("the worker sent more of a stream than it had credit for", blame=True)

    def _add(self, items: list[str | bytes]) -> None:
        if self._error is not None:
            return  # nobody reads on
        size = sum(map(len, items)) + wire.ITEM_BYTES * len(items)
        self._items += items
        self._size += size
        self._uncredited += size
        if self._outcome is not None:
            self._wake()

    def on_lost(self, worker: Worker) -> None:
        if worker.killed_for == MEMORY_REASON:
            self._fail(
                MemoryLimit(
                    self.function,
                    f"{self.function} went over its memory limit ({worker.memory_bytes // 2**20} MB resident)",
                    hint="raise `limits: {memory: …}` in the function's settings file",
                )
            )
        else:
            self._fail(WorkerDied(self.function, f"{self.function}: {worker.epitaph}"))
        self._finish(survived=False)

    def _fail(self, error: FnsyncError) -> None:
        if self._error is None and not self._ended:
            self._error = error
            self._wake()

    def _finish(self, *, survived: bool = True) -> None:
        """The worker has let go."""
        if self._ended:
            return
        self._ended = True
        self._end_asks()
        if self._deadlines is not None:
            self._deadlines.discard(self)
        if self._grace is not None:
            self._grace.cancel()
        if self._worker is not None:
            self._worker.end_call(self)
        self._release_once(survived)
        self._wake()

    def _release_once(self, survived: bool = True) -> None:
        release, self._release = self._release, None
        if release is not None:
            release(survived)


def _check_size(event: bytes) -> None:
    """Raise WireError for an event that no worker of ours sends."""
    if len(event) > wire.ITEM_LIMIT:
        raise wire.WireError(f"an event of {len(event):,} bytes")


def error_of(function: str, failure: wire.Failure) -> FnsyncError:
    """The exception for a Failure frame."""
    match failure.code:
        case "raised":
            return FunctionRaised(
                function, failure.exception, failure.message, tuple(failure.traceback), failure.http_status
            )
        case "unrenderable":
            return Unrenderable(function, f"{function}: {failure.message}", hint=failure.hint)
        case "valves" if failure.misfits:
            misfits = valves.misfits_of(failure.misfits)
            return ValvesUnfit(function, valves.problem_of(misfits), misfits)
        case "user_valves":
            hint = f"each user sets their own: POST /api/functions/id/{function}/valves/user/update"
            return InvalidValves(valves.misfits_of(failure.misfits), about=f"user valves of {function}", hint=hint)
        case "load" | "valves":
            return LoadFailed(function, problem_of(failure))
        case _:
            return FunctionError(function, f"{function}: {failure.message}", hint=failure.hint)


def problem_of(failure: wire.Failure) -> Problem:
    """What a Failure says, as a status tells it."""
    named = failure.code == "load" and failure.exception not in ("Fault", "SyntaxError")
    return Problem(
        code="valves" if failure.code == "valves" or "valves" in failure.exception.lower() else "load_failed",
        message=f"{failure.exception}: {failure.message}" if named else failure.message,
        path=failure.path,
        line=failure.line,
        column=failure.column,
        text=failure.text,
        hint=failure.hint,
        traceback=tuple(failure.traceback),
    )
