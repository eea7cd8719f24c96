"""Options of a select field that a method of its class gives (function-contract §6.4)."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from fnsync.runtime import wire
from fnsync.worker import results
from fnsync.worker.faults import Fault, message_of, shortened

#: Methods under way at once, those included that nobody waits for any more: a thread cannot be ended.
MOST_OPEN = 32
#: The longest list of options, in bytes of JSON.
OPTIONS_BYTES = 256 * 1024


class UserView(dict[str, Any]):
    """The user as a dict that has its keys as attributes too: it is an object or a dict in the peer, by version."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def model_dump(self) -> dict[str, Any]:
        """The user as a plain dict."""
        return dict(self)


class OptionMethods:
    """Calls methods in threads of their own, so that they hold up no call, and each only for a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0

    def resolve(self, cls: type, valves: Any, names: Sequence[str], user: Mapping[str, Any]) -> dict[str, msgspec.Raw]:
        """The options, JSON lists, by the name of the method. One that gives none is left out; the log says why.
        `valves`: the function's own object of the class, if it has one."""
        answers: SimpleQueue[tuple[str, bytes | BaseException]] = SimpleQueue()
        for name in names:
            self._start(name, partial(options_of, cls, valves, name, user), answers)
        end = time.monotonic() + wire.OPTIONS_S
        waiting, found = set(names), {}
        while waiting:
            try:
                name, answer = answers.get(timeout=max(0, end - time.monotonic()))
            except Empty:
                break
            waiting.discard(name)
            if isinstance(answer, bytes):
                found[name] = msgspec.Raw(answer)
            elif isinstance(answer, Fault):
                _note(cls, name, str(answer))
            else:
                _note(cls, name, f"{type(answer).__name__}: {message_of(answer)}")
        for name in sorted(waiting):
            _note(cls, name, f"it takes longer than {wire.OPTIONS_S:g} s")
        return found

    def _start(
        self, name: str, work: Callable[[], bytes], answers: SimpleQueue[tuple[str, bytes | BaseException]]
    ) -> None:
        def run() -> None:
            try:
                answer: bytes | BaseException = work()
            except BaseException as exc:  # whatever it raises, the string stays
                answer = exc
            with self._lock:
                self._open -= 1
            answers.put((name, answer))

        with self._lock:
            if self._open >= MOST_OPEN:
                answers.put((name, Fault("valves", f"{self._open} methods before it have not come to an end")))
                return
            self._open += 1
        threading.Thread(target=run, name="options", daemon=True).start()


def options_of(cls: type, valves: Any, name: str, user: Mapping[str, Any]) -> bytes:
    """Call the method; return its options as JSON. Raises whatever it raises, and Fault."""
    method = _method(cls, valves, name)
    parameters = inspect.signature(method).parameters
    found = method(**{key: UserView(user) for key in ("__user__", "user") if key in parameters})
    if inspect.isawaitable(found):
        found = asyncio.run(_awaited(found))
    if not isinstance(found, list):
        raise Fault("valves", f"it gave a {type(found).__name__}, not a list")
    options = results.to_json(found)
    if len(options) > OPTIONS_BYTES:
        raise Fault("valves", f"{len(options):,} bytes of options are too many; {OPTIONS_BYTES:,} are allowed")
    return options


def _method(cls: type, valves: Any, name: str) -> Callable[..., Any]:
    """The method, of the class as in the peer; one that takes `self` is bound to the function's valves."""
    method = getattr(cls, name, None)
    if not callable(method):
        raise Fault("valves", "there is no such method")
    takes_self = next(iter(inspect.signature(method).parameters), None) == "self"
    return getattr(valves, name) if takes_self and isinstance(valves, cls) else method  # type: ignore[no-any-return]


async def _awaited(value: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout(wire.OPTIONS_S):  # so that it ends, though nobody waits for it by then
            return await value
    except TimeoutError:
        raise Fault("valves", f"it takes longer than {wire.OPTIONS_S:g} s") from None


def _note(cls: type, name: str, reason: str) -> None:
    print(shortened(f"{cls.__name__}.{name} gives no options: {reason}"), file=sys.stderr)
