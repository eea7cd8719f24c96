"""The frames between server and worker: whole or not at all, and never what was not agreed on."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnsync.runtime import wire
from fnsync.runtime.logs import LogLine
from fnsync.runtime.worker import Worker

texts = st.text(st.characters(codec="utf-8"), max_size=40)
ids = st.integers(0, 2**40)
frames = st.one_of(
    st.builds(wire.Call, ids, texts, st.binary(max_size=300), st.booleans(), st.binary(max_size=20), st.just({})),
    st.builds(wire.Cancel, ids),
    st.builds(wire.Credit, ids, ids),
    st.builds(wire.Answer, ids, ids, st.binary(max_size=50)),
    st.builds(wire.Configure, ids, st.dictionaries(texts, st.none() | texts | st.integers(0, 9)), ids),
    st.builds(wire.Check, ids, st.sampled_from(["valves", "user_valves"]), st.dictionaries(texts, texts)),
    st.builds(wire.HostReply, ids, ids, st.binary(max_size=50), st.binary(max_size=50)),
    st.builds(wire.HostBegin, ids, ids, st.builds(wire.Head, st.integers(200, 599), texts, st.just([])), st.booleans()),
    st.builds(wire.HostChunk, ids, ids, st.binary(max_size=50)),
    st.builds(wire.HostFailure, ids, ids, texts, st.integers(400, 599), texts, st.none() | texts),
    st.builds(wire.Options, ids, st.just("valves"), st.lists(texts), st.dictionaries(texts, texts)),
)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 5000), max_size=12))
def test_frames_arrive_whole_however_the_bytes_are_cut(sent: list[wire.Frame], places: list[int]) -> None:
    decoder = wire.Decoder(wire.ToWorker)
    data = b"".join(wire.encode(frame) for frame in sent)
    received = [frame for piece in cut(data, places) for frame in decoder.feed(piece)]
    assert received == sent


@given(st.lists(texts | st.binary(max_size=40), max_size=10))
def test_chunk_keeps_text_and_json_apart(items: list[str | bytes]) -> None:
    (received,) = wire.Decoder(wire.FromWorker).feed(wire.encode(wire.Chunk(7, items)))
    assert received == wire.Chunk(7, items)


@given(st.binary(max_size=200))
def test_garbage_is_an_error_and_no_crash(data: bytes) -> None:
    decoder = wire.Decoder(wire.FromWorker)
    try:
        for frame in decoder.feed(data):
            assert isinstance(frame, wire.Frame)
    except wire.WireError:
        pass


def framed(value: Any) -> bytes:
    data = msgspec.msgpack.encode(value)
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    "value",
    [
        "text",
        {},
        [],
        [99, 1],  # no such tag
        [12, 1, "pipe", b"", False, b"", {}],  # a frame of the other direction
        [21, "one", "text"],  # an id that is no number
        [21, 1, 5],
        [23, 1, ["text", 5]],  # items are str or bytes
        [23, 1, [None]],
        [23, 1, [["nested"]]],
        [28, [["now", "stdout", "INFO", 0, "text"]]],
    ],
)
def test_what_is_no_frame_of_the_worker_is_refused(value: Any) -> None:
    with pytest.raises(wire.WireError):
        list(wire.Decoder(wire.FromWorker).feed(framed(value)))


def test_frame_with_bad_utf8_is_refused() -> None:
    data = bytearray(wire.encode(wire.Chunk(1, ["abcd"])))
    data[data.index(b"abcd")] = 0xFF
    with pytest.raises(wire.WireError):
        list(wire.Decoder(wire.FromWorker).feed(bytes(data)))


def test_oversize_is_refused_by_its_header_alone() -> None:
    header = (wire.MAX_FRAME_BYTES + 1).to_bytes(4, "big")
    with pytest.raises(wire.WireError, match="over the limit of 134,217,728"):
        list(wire.Decoder(wire.FromWorker).feed(header))
    halves = wire.Decoder(wire.FromWorker)
    assert list(halves.feed(header[:2])) == []
    with pytest.raises(wire.WireError):
        list(halves.feed(header[2:]))


def test_oversize_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 1000)
    with pytest.raises(wire.WireError, match="over the limit of 1,000"):
        wire.encode(wire.Reply(1, "text", b"x" * 1000))


def test_a_body_of_32_mb_passes_in_pieces() -> None:
    frame = wire.Call(1, "pipe", b"x" * 32 * 2**20, False, b"", {})
    data = wire.encode(frame)
    decoder = wire.Decoder(wire.ToWorker)
    received = [
        found for start in range(0, len(data), 256 * 1024) for found in decoder.feed(data[start : start + 256 * 1024])
    ]
    assert received == [frame]


def test_worker_of_another_protocol_is_refused() -> None:
    """The server's end of a worker that says hello in another version: it is hung up on."""

    async def run(pid: int) -> str:
        ours, theirs = socket.socketpair()
        output, output_end = os.pipe()
        lines: list[LogLine] = []
        gone = asyncio.Event()
        worker = Worker("probe", "r" * 64, lines.append, lambda _: gone.set())
        with theirs:
            ours.setblocking(False)
            worker.adopt(pid)
            await worker.attach(ours, output)
            theirs.sendall(wire.encode(wire.Hello(wire.PROTOCOL + 1, 1)))
            async with asyncio.timeout(5):
                await gone.wait()
        os.close(output_end)
        return worker.epitaph

    with subprocess.Popen(["sleep", "60"]) as process:
        assert f"protocol {wire.PROTOCOL + 1}, not {wire.PROTOCOL}" in asyncio.run(run(process.pid))
        assert process.wait(5) == -signal.SIGKILL
