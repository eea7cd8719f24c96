"""Answers of model methods: values that can also be awaited, since authors write both (function-contract §9.1).

    user = Users.get_user_by_id(id)            # the value, at once; so in threads, and on the loop, which it holds up
    user = await Users.get_user_by_id(id)      # the same, without holding up the loop

A method is a generator that yields the questions it has for the server and returns its answer. Which of the two it is
is seen in the instruction behind the call. A value of the first case can be awaited later, passed to `asyncio.run`,
`gather` and the like, and is then without that. `None` cannot: it is a coroutine instead where the source awaits it.
"""

from __future__ import annotations

import functools
import opcode
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from pydantic import BaseModel, ConfigDict

from fnsync.worker import host
from fnsync.worker.compat.absent import NotProvided
from fnsync.worker.compat.awaiting import is_awaited_later


@dataclass(frozen=True, slots=True)
class Question:
    """What a method asks of the server; as in Host.ask."""

    name: str
    value: Any = None
    data: bytes = b""


Steps = Generator[Question, host.Told, Any]
_GET_AWAITABLE = opcode.opmap["GET_AWAITABLE"]
_CACHE = opcode.opmap.get("CACHE", 0)


class Table:
    """An object of model methods, of that name in its module. Methods that it lacks raise NotProvided."""

    def __init__(self, name: str) -> None:
        self._symbol = f"{type(self).__module__.removeprefix('fnsync.worker.compat.')}.{name}"

    def __getattr__(self, name: str) -> Any:
        raise NotProvided(f"{self._symbol}.{name}")


def answers(method: Callable[..., Steps]) -> Callable[..., Any]:
    """A method whose answer can be awaited or not."""

    @functools.wraps(method)
    def answering(*args: Any, **kwargs: Any) -> Any:
        steps = method(*args, **kwargs)
        if is_awaited(sys._getframe(1)):
            return later(steps)
        value = at_once(steps)
        if value is None and is_awaited_later(sys._getframe(1)):
            return _nothing()
        return ready(value)

    return answering


async def _nothing() -> None:
    """None, for who awaits it."""


def is_awaited(frame: FrameType) -> bool:
    """Whether the call that the frame is in has an `await` right before it."""
    code, at = frame.f_code.co_code, frame.f_lasti + 2
    while at < len(code) and code[at] == _CACHE:
        at += 2
    return at < len(code) and code[at] == _GET_AWAITABLE


def at_once(steps: Steps) -> Any:
    """The answer, after waiting for the server."""
    try:
        question = next(steps)
        while True:
            try:
                answer = host.current().ask(question.name, question.value, question.data)
            except host.Refused as exc:
                question = steps.throw(exc)
            else:
                question = steps.send(_told(answer))
    except StopIteration as stop:
        return stop.value


async def later(steps: Steps) -> Any:
    """The answer, awaiting the server."""
    try:
        question = next(steps)
        while True:
            try:
                answer = await host.current().ask_async(question.name, question.value, question.data)
            except host.Refused as exc:
                question = steps.throw(exc)
            else:
                question = steps.send(_told(answer))
    except StopIteration as stop:
        return stop.value


def _told(answer: host.Answer) -> host.Told:
    assert isinstance(answer, host.Told), "only completions stream"
    return answer


class _Ready:
    """Makes a value look like a coroutine that has its answer: enough for `await`, `asyncio.run` and tasks."""

    def plain_value(self) -> Any:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, Any]:
        return self.plain_value()
        yield

    def send(self, value: None) -> Any:
        raise StopIteration(self.plain_value())

    def throw(self, *exc: Any) -> Any:
        raise exc[0]

    def close(self) -> None:
        pass

    #: `gather` looks for the same coroutine given twice.
    __hash__ = object.__hash__


class ReadyList(_Ready, list[Any]):  # type: ignore[misc]  # its hash: see _Ready
    def plain_value(self) -> list[Any]:
        return list(self)


class ReadyDict(_Ready, dict[str, Any]):  # type: ignore[misc]
    def plain_value(self) -> dict[str, Any]:
        return dict(self)


class ReadyText(_Ready, str):
    __hash__ = str.__hash__

    def plain_value(self) -> str:
        return str.__str__(self)


class ReadyNumber(_Ready, int):
    """A number, or a truth: bool has no subclasses."""

    truth = False
    __hash__ = int.__hash__

    def plain_value(self) -> int:
        return bool(self) if self.truth else int(self)

    def __repr__(self) -> str:
        return repr(self.plain_value())


class ReadyTruth(ReadyNumber):
    truth = True


def ready(value: Any) -> Any:
    """The value, so that it can be awaited too; None is itself."""
    match value:
        case None:
            return None
        case BaseModel():
            return _ready_model(value)
        case bool():
            return ReadyTruth(value)
        case int():
            return ReadyNumber(value)
        case str():
            return ReadyText(value)
        case list():
            return ReadyList(value)
        case dict():
            return ReadyDict(value)
    return value


def _ready_model(plain: BaseModel) -> BaseModel:
    cls = _ready_class(type(plain))
    made = cls.__new__(cls)
    # As pydantic does itself in model_construct: the four slots of a model.
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(made, slot, getattr(plain, slot))
    return made


def _itself(plain: BaseModel) -> BaseModel:
    """What a pickled answer comes back as."""
    return plain


@functools.cache
def _ready_class(plain: type[BaseModel]) -> type[BaseModel]:
    def plain_value(self: BaseModel) -> BaseModel:
        made = plain.__new__(plain)
        for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
            object.__setattr__(made, slot, getattr(self, slot))
        return made

    def __eq__(self: BaseModel, other: Any) -> bool:
        """As the plain one, which pydantic takes for another class's."""
        return plain_value(self) == (plain_value(other) if type(other) is type(self) else other)

    def __reduce_ex__(self: BaseModel, protocol: Any) -> Any:
        return _itself, (plain_value(self),)

    namespace = {
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        # Its schema is the plain class's; few values are ever written out as this class.
        "model_config": ConfigDict(defer_build=True),
        "plain_value": plain_value,
        "__eq__": __eq__,
        "__reduce_ex__": __reduce_ex__,
        "__await__": _Ready.__await__,
        "send": _Ready.send,
        "throw": _Ready.throw,
        "close": _Ready.close,
        "__hash__": _Ready.__hash__,
    }
    metaclass: Any = type(plain)
    made: type[BaseModel] = metaclass(plain.__name__, (plain,), namespace)
    return made
