"""The frames between server, zygotes and workers: MessagePack with a 4-byte big-endian length in front.

The only module of the server that workers import, so it needs nothing but msgspec. The other side is not
trusted: a frame is bounded in size and decoded to a type, and any doubt about it is a `WireError`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

#: Largest frame either side accepts, in bytes; above the largest request body.
MAX_FRAME_BYTES = 128 * 1024 * 1024
#: How many bytes of chunks a stream may have under way before its reader has taken them.
STREAM_WINDOW_BYTES = 256 * 1024
#: What an item counts besides its length, so that a stream of empty texts is bounded too.
ITEM_BYTES = 32
#: The largest item of a stream, event and question, in characters or bytes.
ITEM_LIMIT = 32 * 1024 * 1024
#: What a stream's item begins with that the function emitted; JSON never does.
EMITTED = b"\x1e"
#: How much of a stream that a function asked of the server may be under way before it has read it, in bytes.
HOST_WINDOW_BYTES = 256 * 1024
#: The largest Reply to anything but a Call, in bytes: what a worker tells of its function.
TOLD_BYTES = 4 * 1024 * 1024
#: How long the methods that give a class's options may take together, in seconds.
OPTIONS_S = 5.0
#: How long a pipeline's `on_shutdown` may take, in seconds.
SHUTDOWN_S = 5.0
#: Which of a function's two classes is meant.
ValvesModel = Literal["valves", "user_valves"]
#: Raised whenever a frame changes; worker and server must agree.
PROTOCOL = 8

HEADER_BYTES = 4


class WireError(Exception):
    """The other side sent something that is no frame."""


class Frame(msgspec.Struct, frozen=True, array_like=True, tag_field="t"):
    """Base of all frames; travels as an array whose first item is the tag."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Status and headers of a response."""

    status: int
    media_type: str
    headers: list[tuple[str, str]]


# ---- server -> zygote ------------------------------------------------------------------------------------


class Fork(Frame, frozen=True, array_like=True, tag=1):
    """Fork a worker; its socket and its output pipe's write end travel along as descriptors."""

    id: int
    #: Names and values of the environment variables it gets.
    environment: dict[str, str]
    #: Address space backstop in bytes above what the zygote has; 0: none.
    address_space_bytes: int
    #: A private folder to work in.
    folder: str


# ---- zygote -> server ------------------------------------------------------------------------------------


class ZygoteReady(Frame, frozen=True, array_like=True, tag=2):
    protocol: int
    pid: int
    #: Modules that could not be imported ahead, with the reason.
    missing: dict[str, str]


class Forked(Frame, frozen=True, array_like=True, tag=3):
    id: int
    pid: int
    #: Set when the fork failed; then pid is 0.
    error: str | None = None


class Exited(Frame, frozen=True, array_like=True, tag=4):
    """A worker is gone. `status` as from waitpid's exit code: negative for a signal."""

    pid: int
    status: int


# ---- server -> worker ------------------------------------------------------------------------------------


class Describe(Frame, frozen=True, array_like=True, tag=10):
    """Load a revision; answered with Reply (kind `json`: Loaded) or Failure."""

    id: int
    function: str
    revision: str
    #: The snapshot's folder, absolute.
    snapshot: str
    #: The source within the snapshot.
    entry: str
    #: Place in the snapshot -> the path to show in tracebacks.
    shown: dict[str, str]
    #: Stored valve values, resolved.
    valves: dict[str, Any]
    #: How many sync handlers may run at once.
    threads: int
    #: Whether to tell what the revision is.
    describe: bool
    #: Names of values that are stored encrypted, or taken from the server's environment.
    sealed: list[str] = []
    #: Whether to run a pipeline's `on_startup` then; if it fails, the load has failed.
    start: bool = False


class Configure(Frame, frozen=True, array_like=True, tag=11):
    """Set the stored valve values; answered with Reply (`none`) or Failure, which leaves the old ones. A pipeline's
    `on_valves_updated` has run by then."""

    id: int
    valves: dict[str, Any]
    #: These as in Describe.
    threads: int
    sealed: list[str] = []


class Call(Frame, frozen=True, array_like=True, tag=12):
    """Call a handler."""

    id: int
    handler: str
    #: The first argument, JSON; empty: the handler is called without one.
    body: bytes
    #: Whether chunks are wanted; else a generator's text is joined in the worker.
    stream: bool
    #: Values for reserved arguments by name, JSON object; the handler gets those it names.
    context: bytes
    #: Stored values of the caller's UserValves.
    user_valves: dict[str, Any]
    #: Whether what the function emits is wanted among a stream's items, marked by EMITTED.
    events: bool = False
    #: The request that a filter's handler is called for; calls with one number share their arguments. Then `inlet` and
    #: `request` answer with the next body or `none`, and `stream` takes a JSON list of events and answers Filtered.
    #: 0: the handler is called for itself.
    turn: int = 0
    #: Whether it is wanted as Event frames where it does not stand there.
    listened: bool = False


class Cancel(Frame, frozen=True, array_like=True, tag=13):
    """End a call; its generator's `finally` runs. Answered with whatever ends the call."""

    id: int


class Credit(Frame, frozen=True, array_like=True, tag=14):
    """The reader of a stream has taken this many bytes."""

    id: int
    size: int


class Answer(Frame, frozen=True, array_like=True, tag=15):
    """The answer to an Ask, JSON."""

    id: int
    ask: int
    data: bytes


class Options(Frame, frozen=True, array_like=True, tag=17):
    """Call the methods of a class that give options; answered with Reply (kind `json`: for each that gives some the
    list, by its name) or Failure."""

    id: int
    model: ValvesModel
    methods: list[str]
    #: What the methods get as `__user__` and `user`.
    user: dict[str, Any]


class Check(Frame, frozen=True, array_like=True, tag=16):
    """Hold values against a class; answered with Reply (kind `json`: Checked, or `none` without such a class) or
    Failure."""

    id: int
    model: ValvesModel
    values: dict[str, Any]
    #: As in Describe.
    sealed: list[str] = []
    #: Whether to tell all fields, too.
    whole: bool = False


class Stop(Frame, frozen=True, array_like=True, tag=30):
    """Run a pipeline's `on_shutdown`; answered with Reply (`none`), after which the worker can be killed."""

    id: int


class HostReply(Frame, frozen=True, array_like=True, tag=43):
    """The whole answer to a HostCall."""

    id: int
    number: int
    #: JSON, or with `head` a response's body.
    body: bytes
    #: A file's content.
    data: bytes = b""
    head: Head | None = None


class HostBegin(Frame, frozen=True, array_like=True, tag=44):
    """The answer to a HostCall is a stream: HostChunks, then a HostEnd or a HostFailure."""

    id: int
    number: int
    head: Head
    #: Whether the function gets its chunks as text.
    text: bool


class HostChunk(Frame, frozen=True, array_like=True, tag=45):
    id: int
    number: int
    data: bytes


class HostEnd(Frame, frozen=True, array_like=True, tag=46):
    id: int
    number: int


class HostFailure(Frame, frozen=True, array_like=True, tag=47):
    """A HostCall is refused, failed, or its stream broke; `code` and `status` as in fnsync.errors.

    Codes of its own: `cancelled`, `over` (the call is), `not_here` (this call can ask for nothing).
    """

    id: int
    number: int
    code: str
    status: int
    message: str
    hint: str | None = None


# ---- worker -> server ------------------------------------------------------------------------------------


class Hello(Frame, frozen=True, array_like=True, tag=20):
    protocol: int
    pid: int


class Reply(Frame, frozen=True, array_like=True, tag=21):
    """The result of a call that is no stream.

    kind `none`: no data; `text`: UTF-8; `json`: one JSON value; `response`: a body, with `head`.
    """

    id: int
    kind: str
    data: bytes = b""
    head: Head | None = None


class Begin(Frame, frozen=True, array_like=True, tag=22):
    """A stream begins: its first item exists. With `head` its chunks are a response's own bytes."""

    id: int
    head: Head | None = None


class Chunk(Frame, frozen=True, array_like=True, tag=23):
    """Items of a stream: str is text, bytes is one JSON value, after EMITTED an event (or, under a head, raw bytes)."""

    id: int
    #: msgspec cannot decode a union of str and bytes, so the types are checked here.
    items: list[Any]

    def __post_init__(self) -> None:
        for item in self.items:
            if not isinstance(item, str | bytes):
                raise TypeError(f"an item is str or bytes, not {type(item).__name__}")


class End(Frame, frozen=True, array_like=True, tag=24):
    """A stream ended well."""

    id: int


class Misfit(msgspec.Struct, frozen=True):
    """A value that does not fit a field; as in fnsync.model."""

    field: str
    message: str
    missing: bool


class Failure(Frame, frozen=True, array_like=True, tag=25):
    """A call, a load or a stream ended badly.

    `code`: `raised`, `load`, `valves`, `user_valves`, `unrenderable`, `cancelled`, `no_handler`.
    """

    id: int
    code: str
    #: The exception's class name.
    exception: str
    message: str
    path: str | None = None
    line: int | None = None
    column: int | None = None
    text: str | None = None
    hint: str | None = None
    traceback: list[str] = []
    #: Of codes `valves` and `user_valves`: which values do not fit.
    misfits: list[Misfit] = []
    #: Of an HTTP exception.
    http_status: int | None = None


class Filtered(msgspec.Struct, frozen=True):
    """The JSON of the Reply to a call of `stream` with many events."""

    #: One for each event, in order: what takes its place, or null where it is left out.
    events: list[msgspec.Raw]
    #: Why the events after these were not filtered.
    failure: Failure | None = None


class Event(Frame, frozen=True, array_like=True, tag=26):
    """What a function emits beside a stream, or ahead of it, JSON."""

    id: int
    data: bytes


class Ask(Frame, frozen=True, array_like=True, tag=27):
    """What a function asks the client through `__event_call__`, JSON; waits for an Answer."""

    id: int
    ask: int
    data: bytes


class HostCall(Frame, frozen=True, array_like=True, tag=40):
    """What a function asks of the server; answered with HostReply, HostBegin or HostFailure."""

    id: int
    #: Tells the questions of one worker apart.
    number: int
    name: str
    #: JSON.
    body: bytes
    #: A file's content.
    data: bytes = b""


class HostCredit(Frame, frozen=True, array_like=True, tag=41):
    """The function has read this many bytes of the stream that it asked for."""

    id: int
    number: int
    size: int


class HostCancel(Frame, frozen=True, array_like=True, tag=42):
    """The function does not want the answer any more."""

    id: int
    number: int


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One line of output. `stream`: `stdout`, `stderr` or `log`."""

    at: float
    stream: str
    level: str
    #: 0: outside any call.
    call: int
    text: str
    logger: str = ""


class Lines(Frame, frozen=True, array_like=True, tag=28):
    lines: list[Line]
    #: Lines thrown away before these, because they came faster than they could be kept.
    dropped: int = 0


class Checked(msgspec.Struct, frozen=True):
    """The JSON of the Reply to Check."""

    misfits: list[Misfit]
    #: What to store if they fit: of the fields that were set, what the class made of them.
    values: dict[str, Any]
    #: Of fields with aliases: each name a value may be given by, and all that it and what is inside it go by.
    names: dict[str, list[str]] = {}
    #: The names of fields whose types say that they are secret.
    secret: list[str] = []
    #: All fields as they are with the values, if they fit and it was asked for.
    whole: dict[str, Any] = {}


class Loaded(msgspec.Struct, frozen=True):
    """The JSON of the Reply to Describe."""

    #: Stored valve values that do not fit; then none of them is set, and the function is not to be called.
    misfits: list[Misfit]
    #: None: it was not asked for.
    description: Description | None


class Description(msgspec.Struct, frozen=True):
    """What loading revealed. The server turns it into a Manifest."""

    kind: str
    name: str | None
    handlers: list[DescribedHandler]
    manifold: bool
    valves_schema: dict[str, Any] | None
    user_valves_schema: dict[str, Any] | None
    toggle: bool
    file_handler: bool
    icon: str | None
    actions: list[dict[str, Any]]
    #: Of kind `pipeline`.
    pipeline: DescribedPipeline | None = None


class DescribedPipeline(msgspec.Struct, frozen=True):
    """What an instance of a Pipelines class says of itself; as in fnsync.model."""

    type: str
    id: str | None
    targets: list[str] | None
    priority: float


class DescribedHandler(msgspec.Struct, frozen=True):
    name: str
    line: int
    is_async: bool
    is_generator: bool
    parameters: list[str]
    var_keyword: bool


ToZygote = Fork
FromZygote = ZygoteReady | Forked | Exited
HostFrame = HostReply | HostBegin | HostChunk | HostEnd | HostFailure
ToWorker = Describe | Configure | Call | Cancel | Credit | Answer | Check | Options | Stop | HostFrame
FromWorker = Hello | Reply | Begin | Chunk | End | Failure | Event | Ask | HostCall | HostCredit | HostCancel | Lines

#: The bytes of a value within a frame. Raises OverflowError, UnicodeEncodeError, TypeError, RecursionError.
encode_value = msgspec.msgpack.Encoder().encode
#: Frames up to this size are sliced out as copies, larger ones as views; in bytes.
SMALL_BYTES = 16 * 1024


def encode(frame: Frame) -> bytes:
    """Return the frame's bytes, length included. Raises WireError above MAX_FRAME_BYTES."""
    data = encode_value(frame)
    size = len(data)
    if size > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {size:,} bytes is over the limit of {MAX_FRAME_BYTES:,}")
    return size.to_bytes(HEADER_BYTES, "big") + data


class Decoder:
    """Collects bytes and gives the frames that are whole."""

    def __init__(self, kind: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Return the frames that `data` completes. Raises WireError; the connection is then of no use."""
        pending = self._pending
        if pending:
            pending += data
            if len(pending) < HEADER_BYTES or len(pending) - HEADER_BYTES < _size(pending, 0):
                return []
            data = bytes(pending)
            pending.clear()
        frames = []
        start, end = 0, len(data)
        while end - start >= HEADER_BYTES:
            size = _size(data, start)
            if end - start - HEADER_BYTES < size:
                break
            start += HEADER_BYTES
            frames.append(self._frame(data, start, size))
            start += size
        if start < end:
            pending += data[start:]
        return frames

    def _frame(self, data: bytes, start: int, size: int) -> Any:
        try:
            if size <= SMALL_BYTES:
                return self._decode(data[start : start + size])
            return self._decode(memoryview(data)[start : start + size])
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise WireError(f"not a frame: {exc}") from exc


def _size(data: bytes | bytearray, start: int) -> int:
    size = int.from_bytes(data[start : start + HEADER_BYTES], "big")
    if size > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {size:,} bytes is over the limit of {MAX_FRAME_BYTES:,}")
    return size
