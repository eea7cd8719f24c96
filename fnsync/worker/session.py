"""A worker's life after the fork: it says hello, loads one revision and answers calls until the server is gone."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from fnsync.runtime import wire
from fnsync.worker import embeds, host, loader, results, stages, threads
from fnsync.worker.calls import ActiveCall, Cancelled
from fnsync.worker.channel import Channel
from fnsync.worker.compat import finder
from fnsync.worker.faults import Fault, Places
from fnsync.worker.hooks import Hooks
from fnsync.worker.injection import Injection
from fnsync.worker.options import OptionMethods
from fnsync.worker.output import Output, Stream, current_call
from fnsync.worker.talking import Talk
from fnsync.worker.tasks import adopt_tasks
from fnsync.worker.valves import Unfit

#: Bodies above this are decoded off the loop, in bytes.
LARGE_BODY_BYTES = 1024 * 1024


def serve(connection: socket.socket) -> None:
    """Run until the server closes the channel."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(Session.run(connection))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop  # an environment may lack it
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop


class Session:
    """Dispatches frames; owns the function and the calls under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        self._loop = loop
        self._channel = Channel(loop, connection, self._on_frame, self._on_lost)
        self._output = Output(loop, self._channel)
        self._threads = threads.ThreadPool(1)
        self._options = OptionMethods()
        self._calls: dict[int, ActiveCall] = {}
        self._speech = Talk(self._calls, self._channel)
        self._injection = Injection(self._calls, self._speech)
        self._host = host.Host(self._channel, self._calls)
        self._function: loader.Function | None = None
        self._hooks = Hooks(loop)
        self._places = Places("/", {})
        self._streams: tuple[Stream, ...] = ()
        #: Whether this process is one that the function forked.
        self._is_copy = False
        os.register_at_fork(after_in_child=self._on_forked)

    @classmethod
    async def run(cls, connection: socket.socket) -> None:
        """Serve forever; the process ends with the channel."""
        session = cls(asyncio.get_running_loop(), connection)
        session._streams = session._output.install()
        host.install(session._host)
        threads.inherit_contexts()
        adopt_tasks(session._loop)
        finder.install()
        session._channel.post(wire.Hello(wire.PROTOCOL, os.getpid()))
        await session._loop.create_future()

    def _on_forked(self) -> None:
        self._is_copy = True

    def _on_lost(self) -> None:
        # At once: nobody is left to receive anything, and function code must not run on unseen.
        os._exit(0)

    def _on_frame(self, frame: wire.ToWorker) -> None:
        match frame:
            case wire.Call():
                self._call(frame)
            case wire.Credit():
                if call := self._calls.get(frame.id):
                    call.add_credit(frame.size)
            case wire.Cancel():
                if call := self._calls.get(frame.id):
                    call.cancel()
                    self._speech.end(frame.id)
            case wire.Describe():
                self._describe(frame)
            case wire.Configure():
                self._configure(frame)
            case wire.Check():
                self._check(frame)
            case wire.Options():
                self._resolve_options(frame)
            case wire.Stop():
                self._hooks.spawn(self._stop(frame.id))
            case wire.HostReply() | wire.HostBegin() | wire.HostChunk() | wire.HostEnd() | wire.HostFailure():
                self._host.on_frame(frame)
            case wire.Answer():
                self._speech.on_answer(frame)

    # ---- loading ----

    def _describe(self, frame: wire.Describe) -> None:
        """Load on the loop itself: sources may use the running loop while they are loaded, as in the peer."""
        self._places = self._hooks.places = Places(frame.snapshot, frame.shown)
        self._threads.most = frame.threads
        try:
            function = self._function = self._injection.function = loader.load(frame)
            description = loader.describe(function) if frame.describe else None
            loaded = _told(frame.id, wire.Loaded(list(function.misfits), description))
        except BaseException as exc:  # whatever a source raises, SystemExit too, is its author's to see
            self._channel.post(self._places.failure(frame.id, "load", exc))
            return
        self._hooks.stored = frame.valves
        if frame.start and not function.misfits and function.has_hook("on_startup"):
            self._hooks.spawn(self._start(function, loaded))
        else:
            self._channel.post(loaded)

    async def _start(self, function: loader.Function, loaded: wire.Reply) -> None:
        try:
            await function.run_hook("on_startup")
        except BaseException as exc:
            self._channel.post(self._places.failure(loaded.id, "load", exc))
        else:
            self._channel.post(loaded)

    async def _stop(self, id: int) -> None:
        if self._function is not None:
            await self._hooks.shut_down(self._function)
        self._output.flush()
        self._channel.post_now(wire.Reply(id, "none"))

    def _configure(self, frame: wire.Configure) -> None:
        self._threads.most = max(self._threads.most, frame.threads)

        def configure(function: loader.Function) -> wire.Reply:
            function.configure(frame.valves, frame.sealed)
            self._hooks.valves_updated(function, frame.valves)
            return wire.Reply(frame.id, "none")

        self._aside(frame.id, configure)

    def _check(self, frame: wire.Check) -> None:
        def check(function: loader.Function) -> wire.Reply:
            try:
                checked = function.checked(frame.model, frame.values, frame.sealed, whole=frame.whole)
            except Unfit as unfit:
                return _told(frame.id, wire.Checked(list(unfit.misfits), {}))
            return wire.Reply(frame.id, "none") if checked is None else _told(frame.id, checked)

        self._aside(frame.id, check)

    def _resolve_options(self, frame: wire.Options) -> None:
        def resolve(function: loader.Function) -> wire.Reply:
            cls = function.model_class(frame.model)
            valves = getattr(function.instance, "valves", None) if frame.model == "valves" else None
            found = self._options.resolve(cls, valves, frame.methods, frame.user) if cls is not None else {}
            return _told(frame.id, found)

        self._aside(frame.id, resolve)

    def _aside(self, id: int, work: Callable[[loader.Function], wire.Reply]) -> None:
        """Answer from a thread of its own: the pool's may all be busy with calls, and validators are function code."""
        function = self._function

        def answer() -> None:
            try:
                if function is None:
                    raise Fault("load", "nothing is loaded")
                self._channel.post_now(work(function))
            except BaseException as exc:
                self._channel.post_now(self._places.failure(id, "valves", exc))

        threading.Thread(target=answer, name="valves", daemon=True).start()

    # ---- calls ----

    def _call(self, frame: wire.Call) -> None:
        call = ActiveCall(frame, self._loop, self._channel)
        self._calls[call.id] = call
        try:
            if self._function is None:
                raise Fault("load", "nothing is loaded")
            handler = self._function.handler(frame.handler)
            call.to_item = self._function.to_item
        except BaseException as exc:  # a property is function code as well
            self._fail(call, exc)
            return
        is_batch = frame.turn != 0 and frame.handler == "stream"
        if _runs_on_loop(handler):
            run_async = self._filter_async if is_batch else self._run_async
            self._on_loop(call, lambda: run_async(call, frame, handler))
        else:
            run = self._filter_sync if is_batch else self._run_sync
            self._in_thread(call, lambda: run(call, frame, handler))

    def _on_loop(self, call: ActiveCall, work: Callable[[], Awaitable[bool]]) -> None:
        context = contextvars.copy_context()
        context.run(current_call.set, call.id)
        self._loop.create_task(self._guard(call, work), context=context)

    def _in_thread(self, call: ActiveCall, work: Callable[[], None]) -> None:
        context = contextvars.copy_context()
        context.run(current_call.set, call.id)
        self._threads.submit(lambda: context.run(work))

    def _run_sync(self, call: ActiveCall, frame: wire.Call, handler: Any) -> None:
        try:
            value = handler(**self._injection.for_call(frame, handler)) if callable(handler) else handler
            if _needs_loop(value) or (call.handler == "action" and embeds.embed_of(value) is not None):
                self._loop.call_soon_threadsafe(self._on_loop, call, lambda: self._finish_async(call, value))
                return
        except BaseException as exc:  # SystemExit of a function ends its call, not the process
            self._fail(call, exc)
        else:
            self._finish_in_thread(call, value)

    def _finish_in_thread(self, call: ActiveCall, value: Any) -> None:
        try:
            self._finish_sync(call, value)
        except BaseException as exc:
            self._fail(call, exc)
        else:
            self._done(call)

    def _finish_sync(self, call: ActiveCall, value: Any) -> None:
        if call.turn and call.handler in stages.BODY_HANDLERS:
            self._channel.post_now(stages.body_reply(call.id, call.handler, value, call.metadata))
        elif call.handler != "pipe":
            self._channel.post_now(_generic_reply(call.id, value))
        elif (reply := results.plain_reply(call.id, value)) is not None:
            if call.begun:  # by its events
                call.stream_here(iter((value,)))
            else:
                self._channel.post_now(reply)
        elif hasattr(value, "__next__"):
            if call.stream:
                call.stream_here(value)
            else:
                call.join_here(value)
        else:
            raise results.unrenderable(value, f"`{call.handler}` returned")

    async def _guard(self, call: ActiveCall, work: Callable[[], Awaitable[bool]]) -> None:
        """Run a call's task. `work` returns whether the call is over; else a thread goes on with it."""
        # Known to the call only from here on: a task that is cancelled before it begins answers nothing.
        call.task = asyncio.current_task()
        try:
            if call.cancelled:
                raise Cancelled
            over = await work()
        except BaseException as exc:  # what ends a task ends its call; the loop goes on
            self._fail(call, exc)
        else:
            if over:
                self._done(call)

    async def _run_async(self, call: ActiveCall, frame: wire.Call, handler: Any) -> bool:
        if len(frame.body) > LARGE_BODY_BYTES:
            values = await asyncio.to_thread(self._injection.for_call, frame, handler)
        else:
            values = self._injection.for_call(frame, handler)
        return await self._finish_async(call, handler(**values))

    async def _finish_async(self, call: ActiveCall, value: Any) -> bool:
        while inspect.isawaitable(value):
            value = await value
        if call.handler == "action" and (embed := embeds.embed_of(value)) is not None:
            await call.emit(embed.event)
            value = embed.answer(self._function.id if self._function else "")
        if results.is_response(value):
            if (background := await call.respond(value)) is not None:
                await self._run_behind(background)
        elif hasattr(value, "__aiter__") and not (call.turn and call.handler in stages.BODY_HANDLERS):
            await self._finish_iterator(call, aiter(value))
        elif hasattr(value, "__next__") and call.handler == "pipe":
            # A sync generator that an async handler returned: off the loop, it may block.
            self._in_thread(call, lambda: self._finish_in_thread(call, value))
            return False
        else:
            self._finish_sync(call, value)
        return True

    async def _run_behind(self, background: Any) -> None:
        """Run the background task of a response, which is out already."""
        try:
            await background()
        except BaseException as exc:
            self._hooks.tell("the background task of the response", exc)

    async def _finish_iterator(self, call: ActiveCall, iterator: Any) -> None:
        if call.handler != "pipe":
            self._channel.post(_generic_reply(call.id, [item async for item in iterator]))
        elif call.stream:
            await call.stream_async(iterator)
        else:
            await call.join_async(iterator)

    # ---- streams that go through a filter ----

    def _filter_sync(self, call: ActiveCall, frame: wire.Call, handler: Any) -> None:
        try:
            batch = stages.EventBatch(frame, handler, self._injection.for_stream(frame, handler))
        except BaseException as exc:
            self._fail(call, exc)
            return
        try:
            batch.run(self._loop)
        except BaseException as exc:
            self._end_batch(call, batch, exc)
        else:
            self._end_batch(call, batch, None)

    async def _filter_async(self, call: ActiveCall, frame: wire.Call, handler: Any) -> bool:
        batch = stages.EventBatch(frame, handler, self._injection.for_stream(frame, handler))
        try:
            await batch.run_async()
        except Exception as exc:
            self._end_batch(call, batch, exc)
        else:
            self._end_batch(call, batch, None)
        return False

    def _end_batch(self, call: ActiveCall, batch: stages.EventBatch, exc: BaseException | None) -> None:
        failure = self._places.failure(call.id, "raised", exc) if exc is not None else None
        self._done(call)
        self._channel.post_now(batch.reply(call.id, failure))

    def _done(self, call: ActiveCall) -> None:
        if self._is_copy:
            os._exit(0)  # a process that the function forked, and that came back out of its handler
        self._calls.pop(call.id, None)
        self._speech.end(call.id)
        self._host.on_call_over(call.id)
        for stream in self._streams:
            stream.finish(call.id)

    def _fail(self, call: ActiveCall, exc: BaseException) -> None:
        if call.cancelled and isinstance(exc, Cancelled | asyncio.CancelledError):
            failure = wire.Failure(call.id, "cancelled", "Cancelled", "the call was cancelled")
        else:
            failure = self._places.failure(call.id, "raised", exc)
        self._done(call)
        self._channel.post_now(failure)


def _runs_on_loop(handler: Any) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)


def _needs_loop(value: Any) -> bool:
    """Whether a sync handler's value can only be finished on the loop."""
    return inspect.isawaitable(value) or hasattr(value, "__aiter__") or results.is_response(value)


def _told(id: int, what: Any) -> wire.Reply:
    return wire.Reply(id, "json", results.to_json(what))


def _generic_reply(call: int, value: Any) -> wire.Reply:
    """The result of a handler other than `pipe`: any JSON value."""
    if value is None:
        return wire.Reply(call, "none")
    if hasattr(value, "__next__"):
        value = list(value)
    return wire.Reply(call, "json", results.to_json(value))
