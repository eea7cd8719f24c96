"""The body of a chat completion request.

The function gets the client's bytes unchanged unless a key is in them that is not the function's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from fnsync.errors import Invalid

T = TypeVar("T")

#: Parameters of Open WebUI's own; they are no part of what a model is asked.
_INTERNAL_PARAMS = frozenset(
    {
        "system",
        "custom_params",
        "function_calling",
        "reasoning_tags",
        "stream_response",
        "stream_delta_chunk_size",
        "compact_token_threshold",
        "tool_approval_mode",
        "model_controls",
    }
)


class _Message(msgspec.Struct):
    """A message must be an object; what is in it is the function's business."""


class Private(msgspec.Struct, gc=False):
    """The keys of a body that a function does not see there; it finds them in its reserved arguments."""

    metadata: Raw | UnsetType = UNSET
    files: Raw | UnsetType = UNSET
    features: Raw | UnsetType = UNSET
    tool_ids: Raw | UnsetType = UNSET
    tool_servers: Raw | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    variables: Raw | UnsetType = UNSET
    filter_ids: Raw | UnsetType = UNSET
    skill_ids: Raw | UnsetType = UNSET
    chat_id: Raw | UnsetType = UNSET
    session_id: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    parent_id: Raw | UnsetType = UNSET
    folder_id: Raw | UnsetType = UNSET
    terminal_id: Raw | UnsetType = UNSET
    model_item: Raw | UnsetType = UNSET
    background_tasks: Raw | UnsetType = UNSET


#: Which chat and message it is about.
_IDS = ("chat_id", "session_id", "id", "parent_id", "folder_id")
PRIVATE_KEYS = Private.__struct_fields__
#: Of a request that has none of them.
NO_KEYS = Private()
_ALL_UNSET = msgspec.structs.astuple(NO_KEYS)


class _Body(Private, gc=False):
    model: str | None = None
    stream: bool | None = None
    messages: list[_Message] | None = None
    user: Raw | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Body).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode


@dataclass(slots=True)
class ChatRequest:
    """A request that can be served. `body` is what the function gets, JSON."""

    model: str
    stream: bool
    body: bytes
    #: What was taken out of the body.
    private: Private
    #: The body's `user`, JSON.
    user: Raw | UnsetType = UNSET

    @property
    def wants_events(self) -> bool:
        """Whether `metadata.events` asks for what functions emit."""
        metadata = self.value("metadata")
        return isinstance(metadata, dict) and metadata.get("events") is True

    def value(self, key: str) -> Any:
        """Return a private key's value decoded, None when it was not sent. Raises Invalid for what is nested so deeply
        that only `read` could take it."""
        if self.private is NO_KEYS:
            return None
        raw = getattr(self.private, key)
        try:
            return None if raw is UNSET else msgspec.json.decode(raw)
        except RecursionError as exc:
            raise Invalid(f"{key} is nested too deeply", param=key) from exc

    def within(self, outer: ChatRequest) -> ChatRequest:
        """The request with those ids of `outer` that it has none for."""
        theirs = {key: raw for key in _IDS if (raw := getattr(outer.private, key)) is not UNSET}
        own = {key: raw for key in PRIVATE_KEYS if (raw := getattr(self.private, key)) is not UNSET}
        return ChatRequest(self.model, self.stream, self.body, Private(**{**theirs, **own})) if theirs else self


def parse(data: bytes, *, pipelines: bool = False) -> ChatRequest:
    """Read a request's body. `pipelines`: as a Pipelines server does, where a stream is the default and pipes get the
    whole body. Raises Invalid, which names the key where one is at fault."""
    body = read(data, _decode)
    if not body.model:
        raise Invalid("model is missing: name the model that is to answer", param="model")
    if not body.messages:
        what = "messages is missing" if body.messages is None else "messages is empty"
        raise Invalid(f"{what}: a list with at least one message is needed", param="messages")
    stream = pipelines if body.stream is None else body.stream
    request = ChatRequest(body.model, stream, data, NO_KEYS, body.user)
    if msgspec.structs.astuple(body)[: len(PRIVATE_KEYS)] != _ALL_UNSET:
        request.private = body
        request.body = data if pipelines else _public(data)
    return request


def named_user(request: ChatRequest) -> dict[str, Any] | None:
    """The user whom a request names by an object, as Open WebUI does; None: it names nobody."""
    if request.user is UNSET or not bytes(request.user).startswith(b"{"):
        return None
    found: dict[str, Any] = msgspec.json.decode(request.user)
    return found


class FilterRequest(msgspec.Struct):
    """What a client of a Pipelines server has a filter look at."""

    body: Raw = Raw(b"")
    user: dict[str, Any] | None = None


_decode_filter = msgspec.json.Decoder(FilterRequest).decode


def parse_filter(data: bytes) -> FilterRequest:
    """Read the body of a request to a filter; `body` in it is an object. Raises Invalid."""
    request = read(data, _decode_filter)
    if not bytes(request.body).startswith(b"{"):
        raise Invalid("body: an object is needed, the request that the filter looks at", param="body")
    return request


def read(data: bytes, decode: Callable[[bytes], T]) -> T:
    """A body by one of msgspec's decoders. Raises Invalid, also for what that would skip: whoever gets the body then
    must be able to read all of it."""
    if not data.strip(b" \t\r\n"):
        raise Invalid("the request has no body: a JSON object is needed")
    try:
        msgspec.json.decode(data)
    except msgspec.ValidationError as exc:
        raise Invalid("the body has a number that is out of range") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Invalid(f"the body is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise Invalid("the body is nested too deeply") from exc
    try:
        return decode(data)
    except msgspec.ValidationError as exc:
        raise _misfit(exc) from exc


_PLACE = re.compile(r"(?P<what>.*) - at `\$\.(?P<key>\w+)(?P<rest>[^`]*)`")


def _misfit(exc: msgspec.ValidationError) -> Invalid:
    """Translate msgspec's `Expected `bool`, got `str` - at `$.stream``."""
    found = _PLACE.fullmatch(str(exc))
    if not found and str(exc).startswith("Object missing"):
        return Invalid(_lower(str(exc)))
    if not found:
        return Invalid("the body is not a JSON object: " + _lower(str(exc)))
    key = found["key"]
    return Invalid(f"{key}{found['rest']}: {_lower(found['what'])}", param=key)


def _lower(text: str) -> str:
    return (text[:1].lower() + text[1:]).replace("`", "")


def _public(data: bytes) -> bytes:
    """Return the body without its private keys; `params` are spread into it, as in Open WebUI."""
    body = _decode_object(data)
    params = body.get("params")
    for key in PRIVATE_KEYS:
        body.pop(key, None)
    if params is not None:
        body.update(_spread(params))
    return msgspec.json.encode(body)


#: Private keys that `inlet` sees in the body (function-contract §3.2).
_INLET_KEYS = ("features", "files", "tool_ids", "skill_ids", "terminal_id")


class _Filtered(msgspec.Struct):
    """What a body must have that comes from a filter."""

    model: str
    messages: list[_Message]
    stream: bool | None = None


_decode_filtered = msgspec.json.Decoder(_Filtered).decode


def for_pipe(request: ChatRequest) -> bytes:
    """The body as `pipe` gets it: that says whether the answer is streamed, also where the client left it out."""
    if request.stream or b'"stream"' in request.body:
        return request.body
    return request.body.rstrip().removesuffix(b"}") + b',"stream":false}'


def for_inlet(request: ChatRequest, metadata: Raw) -> bytes:
    """The body as `inlet` gets it."""
    own = {key: raw for key in _INLET_KEYS if (raw := getattr(request.private, key)) is not UNSET}
    stated = {"stream": request.stream} | _decode_object(request.body)
    return msgspec.json.encode(stated | own | {"metadata": metadata})


def after_inlet(body: bytes, request: ChatRequest, metadata: Raw, *, drop_files: bool) -> tuple[ChatRequest, Raw]:
    """The request and its metadata, from the body that the last inlet gave. Files, features and tools count as they
    stand there; `drop_files`: a filter has dealt with them.

    The body is one that `what_is_missing` has nothing to say of.
    """
    values, metadata = _taken_apart(body, metadata)
    own = {key: values.pop(key, UNSET) for key in _INLET_KEYS}
    if drop_files:
        own["files"] = UNSET
    private = msgspec.structs.replace(_plain(request.private), **own)
    told = msgspec.json.decode(metadata, type=dict[str, Raw])
    for key, none in (("features", b"{}"), ("files", b"null"), ("tool_ids", b"null")):
        raw = own[key]
        told[key] = raw if isinstance(raw, Raw) else Raw(none)
    return _request(values, private), Raw(msgspec.json.encode(told))


def with_metadata(body: bytes, metadata: Raw) -> bytes:
    """The body as `request` gets it."""
    return msgspec.json.encode(_decode_object(body) | {"metadata": metadata})


def after_request(body: bytes, request: ChatRequest, metadata: Raw) -> tuple[ChatRequest, Raw]:
    """The request and its metadata, from the body that the last `request` gave; as in `after_inlet`."""
    values, metadata = _taken_apart(body, metadata)
    return _request(values, _plain(request.private)), metadata


def what_is_missing(body: bytes) -> str | None:
    """What keeps a filter's body from being answered; None: nothing does."""
    try:
        _decode_filtered(body)
        _decode_object(body)
    except msgspec.ValidationError as exc:
        return _misfit(exc).message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        return f"it is not JSON: {exc}"
    return None


def _taken_apart(body: bytes, metadata: Raw) -> tuple[dict[str, Raw], Raw]:
    """A filter's body without its metadata; and the metadata in it, the former where there is none."""
    values = _decode_object(body)
    found = values.pop("metadata", None)
    return values, found if found is not None and bytes(found).startswith(b"{") else metadata


def _request(values: dict[str, Raw], private: Private) -> ChatRequest:
    body = msgspec.json.encode({key: value for key, value in values.items() if key not in PRIVATE_KEYS})
    read = _decode_filtered(body)
    return ChatRequest(read.model, bool(read.stream), body, private)


def _plain(private: Private) -> Private:
    """The private keys alone, of an object that may have more."""
    return Private(*(getattr(private, key) for key in PRIVATE_KEYS))


def renamed(body: bytes, model: str) -> bytes:
    """The body with another `model`; every other value stays as it was written."""
    return msgspec.json.encode({**_decode_object(body), "model": model})


def _spread(raw: Raw) -> dict[str, Any]:
    """Return what `params` add to a body: its own keys and those of `custom_params`, nulls left out."""
    params = msgspec.json.decode(raw)
    if not isinstance(params, dict):
        return {}
    custom = params.get("custom_params")
    own = {key: value for key, value in params.items() if key not in _INTERNAL_PARAMS}
    merged = {**own, **custom} if isinstance(custom, dict) else own
    return {key: value for key, value in merged.items() if value is not None}
