"""A loaded `class Pipeline`: called as a Pipelines server calls it (function-contract §10)."""

from __future__ import annotations

import asyncio
import copy
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from fnsync.runtime import wire
from fnsync.worker import loader, results
from fnsync.worker.faults import Fault
from fnsync.worker.pipelines.modules.main import get_last_user_message

#: What Open WebUI tells a pipeline of a user.
_USER_KEYS = ("name", "id", "email", "role")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

Values = Mapping[str, Any]
#: Makes positional and keyword arguments of the values for `body`, `__user__` and other reserved arguments.
Convert = Callable[[Values], tuple[tuple[Any, ...], dict[str, Any]]]


class PipelineFunction(loader.Function):
    """Its handlers take `body` and `__user__`, whatever the source's own take."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.type = str(getattr(self.instance, "type", None) or "pipe")
        #: The valves that its constructor made; stored ones take their place, and are no part of what it is.
        self._given = getattr(self.instance, "valves", None)
        #: Handler -> the source's own, and what is called in its place.
        self._adapted: dict[str, tuple[Any, Any]] = {}

    def handler(self, name: str) -> Any:
        """The handler of that name; `pipes` is what Pipelines calls `pipelines`. Raises Fault `no_handler`."""
        if name == "pipes":
            value = getattr(self.instance, "pipelines", None)
            if value is None:
                raise Fault("no_handler", "Pipeline has no `pipelines`")
            return value
        value = super().handler(name)
        if name not in ("pipe", "inlet", "outlet") or not callable(value):
            return value
        known = self._adapted.get(name)
        if known is None or known[0] != value:
            adapted = self._pipe(value) if name == "pipe" else _hook(name, value)
            known = self._adapted[name] = (value, adapted)
        return known[1]

    def to_item(self, value: Any) -> str | bytes | None:
        return results.to_pipeline_item(value)

    def has_hook(self, name: str) -> bool:
        return callable(getattr(self.instance, name, None))

    async def run_hook(self, name: str) -> None:
        """Run `on_startup`, `on_shutdown` or `on_valves_updated`; sync ones in a thread. Raises what it raises."""
        hook = getattr(self.instance, name, None)
        if hook is None:
            return
        value = hook() if inspect.iscoroutinefunction(hook) else await asyncio.to_thread(hook)
        while inspect.isawaitable(value):
            value = await value

    def described(self, found: wire.Description) -> wire.Description:
        own = getattr(self.instance, "id", None)
        targets, priority = (getattr(self._given, name, None) for name in ("pipelines", "priority"))
        facts = wire.DescribedPipeline(
            type=self.type,
            id=own if isinstance(own, str) else None,
            targets=[item for item in targets if isinstance(item, str)] if isinstance(targets, list | tuple) else None,
            priority=float(priority) if isinstance(priority, int | float) else 0.0,
        )
        handlers = [_described(handler) for handler in found.handlers]
        return msgspec.structs.replace(found, handlers=handlers, manifold=self.type == "manifold", pipeline=facts)

    def _pipe(self, pipe: Any) -> Any:
        def convert(values: Values) -> tuple[tuple[Any, ...], dict[str, Any]]:
            body, user = values["body"], values["__user__"]
            if user:
                body["user"] = {key: user.get(key) for key in _USER_KEYS}
            # A list of its own: what the pipe does to it shows nowhere else.
            messages = copy.deepcopy(body.get("messages") or [])
            asked = {
                "user_message": get_last_user_message(messages),
                "model_id": self._model_id(str(body.get("model"))),
                "messages": messages,
                "body": body,
            }
            return (), {**asked, **{name: values[name] for name in own}}

        own = _reserved(inspect.signature(pipe).parameters)
        return _adapted(pipe, convert)

    def _model_id(self, model: str) -> str:
        """What the pipe is told that it is: of a manifold's model the part behind the manifold's own id."""
        if self.type != "manifold":
            return model
        own = f"{getattr(self.instance, 'id', '')}."
        return model.removeprefix(own) if model.startswith(own) else model.partition(".")[2]


def _hook(name: str, hook: Any) -> Any:
    """`inlet` or `outlet`, which take body and user by place."""
    kinds = [item.kind for item in inspect.signature(hook).parameters.values()]
    alone = sum(kind in _POSITIONAL for kind in kinds) == 1 and inspect.Parameter.VAR_POSITIONAL not in kinds

    def convert(values: Values) -> tuple[tuple[Any, ...], dict[str, Any]]:
        body, user = values["body"], values["__user__"] or None
        return (body,) if alone else (body, user), {name: values[name] for name in own}

    own = _reserved(inspect.signature(hook).parameters)

    def told(value: Any) -> Any:
        if value is None and name == "outlet":  # of an inlet it is said elsewhere
            print("`outlet` returned nothing: the body stays as it was", file=sys.stderr)
        return value

    return _adapted(hook, convert, told)


def _adapted(handler: Any, convert: Convert, told: Callable[[Any], Any] = lambda value: value) -> Any:
    """A function that is called by the names that a function's handlers have for their arguments."""

    async def on_loop(**values: Any) -> Any:
        positional, named = convert(values)
        value = handler(*positional, **named)
        return told(await value if inspect.isawaitable(value) else value)

    def in_thread(**values: Any) -> Any:
        positional, named = convert(values)
        value = handler(*positional, **named)
        # What has to be awaited is finished on the loop.
        return on_loop_later(value) if inspect.isawaitable(value) else told(value)

    async def on_loop_later(value: Any) -> Any:
        return told(await value)

    is_async = inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)
    call: Any = on_loop if is_async else in_thread
    names = dict.fromkeys(["body", "__user__", *_reserved(inspect.signature(handler).parameters)])
    call.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names])
    return call


def _reserved(names: Iterable[str]) -> list[str]:
    """Those reserved arguments that a handler itself names."""
    return [name for name in names if name.startswith("__")]


def _described(handler: wire.DescribedHandler) -> wire.DescribedHandler:
    if handler.name not in ("pipe", "inlet", "outlet"):
        return handler
    names = dict.fromkeys(["body", "__user__", *_reserved(handler.parameters)])
    return msgspec.structs.replace(handler, parameters=list(names))
