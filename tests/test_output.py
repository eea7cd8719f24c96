"""What functions print and log: whole lines, with level, logger and call, whoever wrote them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fnsync.errors import FnsyncError, WorkerDied
from fnsync.runtime.logs import LogLine
from tests.workbench import Bench, until, within

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.fixture
def id(request: pytest.FixtureRequest) -> str:
    """A function id of the test's own: the log book is kept by id."""
    return "".join(c if c.isalnum() else "_" for c in request.node.name)


def source(lines: str, kind: str = "def") -> str:
    body = "\n".join(" " * 8 + line for line in lines.strip().splitlines())
    return (
        "import asyncio, ctypes, logging, os, subprocess, sys, threading, time, warnings\n"
        f"class Pipe:\n    {kind} pipe(self, body):\n{body}\n"
    )


async def lines_of(bench: Bench, id: str, lines: str, count: int, kind: str = "def") -> list[LogLine]:
    """Call a function with these lines; return its first log lines."""
    await bench.call(bench.function(source(lines, kind), id=id))
    await until(f"{count} lines", lambda: len(bench.executor.logs.tail(id)) >= count)
    return bench.executor.logs.tail(id)


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_print_is_a_line_of_its_call(bench: Bench, id: str, kind: str) -> None:
    function = bench.function(source("print('one', 'two')\nprint('grüße', file=sys.stderr)", kind), id=id)
    async with bench.running(function) as call:
        await call.first()
    await until("two lines", lambda: len(bench.log(id)) == 2)
    out, err = bench.executor.logs.tail(id)
    assert (out.stream, out.level, out.text) == ("stdout", "INFO", "one two")
    assert (err.stream, err.level, err.text) == ("stderr", "ERROR", "grüße")
    assert (out.function, out.revision, out.call) == (id, function.revision, call.id)
    assert err.call == call.id and abs(out.at - err.at) < 5


async def test_logging_keeps_level_logger_and_traceback(bench: Bench, id: str) -> None:
    lines = """
log = logging.getLogger("my.part")
log.debug("not shown")
log.warning("careful: %s", 5)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
log.info("bad %d", "format")
"""
    warning, failed, bad = await lines_of(bench, id, lines, 3)
    assert (warning.stream, warning.level, warning.logger, warning.text) == ("log", "WARNING", "my.part", "careful: 5")
    assert (failed.level, failed.text.splitlines()[0]) == ("ERROR", "failed")
    assert failed.text.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "bad %d" in bad.text
    assert all(line.call for line in (warning, failed, bad))


async def test_warnings_of_python_are_logged(bench: Bench, id: str) -> None:
    (line,) = await lines_of(bench, id, "warnings.warn('old way', UserWarning)", 1)
    assert line.logger == "py.warnings" and "old way" in line.text


async def test_unfinished_line_comes_with_the_end_of_its_call(bench: Bench, id: str) -> None:
    (line,) = await lines_of(bench, id, "print('un', end='')\nsys.stdout.write('finished')", 1)
    assert line.text == "unfinished"


async def test_line_built_in_pieces_is_one_line(bench: Bench, id: str) -> None:
    lines = await lines_of(bench, id, "print('a', end='')\nprint('b')\nprint('c\\nd\\n\\ne')", 5)
    assert [line.text for line in lines] == ["ab", "c", "d", "", "e"]


async def test_very_long_line_is_cut_and_says_so(bench: Bench, id: str) -> None:
    line, after = await lines_of(bench, id, "print('x' * 10_000_000, 'rest')\nprint('after')", 2)
    assert len(line.text) < 9000 and line.text.endswith("… (+9,991,808 characters)")
    assert after.text == "after"


async def test_half_a_surrogate_is_shown_escaped(bench: Bench, id: str) -> None:
    lines = await lines_of(bench, id, "print('a\\ud83db')\nlogging.warning('\\ud83d')\nprint('after')", 3)
    assert [line.text for line in lines] == ["a\\ud83db", "\\ud83d", "after"]


async def test_output_before_any_call_has_no_call(bench: Bench, id: str) -> None:
    text = "print('loading')\n" + source("return 'x'")
    await bench.executor.load(bench.function(text, id=id))
    await until("the line", lambda: bench.log(id))
    assert [(line.text, line.call) for line in bench.executor.logs.tail(id)] == [("loading", None)]


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_call_ids_are_right_under_concurrency(bench: Bench, id: str, kind: str) -> None:
    pause = "await asyncio.sleep(0.001)" if kind == "async def" else "time.sleep(0.001)"
    lines = f"""
for n in range(5):
    print(body["n"], end=" ")
    {pause}
    print(body["n"])
    logging.info(body["n"])
"""
    function = bench.function(source(lines, kind), id=id)
    numbers: dict[int, int] = {}

    async def one(n: int) -> None:
        async with bench.running(function, body={"n": n}) as call:
            numbers[n] = call.id
            await call.first()

    await asyncio.gather(*(one(n) for n in range(20)))
    await until("all lines", lambda: len(bench.log(id)) == 200)
    for line in bench.executor.logs.tail(id):
        first, *others = line.text.split()
        assert set(others) <= {first}, f"lines of two calls are mixed: {line.text}"
        assert line.call == numbers[int(first)]


async def test_output_of_generators_and_threads_of_a_call(bench: Bench, id: str) -> None:
    lines = """
await asyncio.to_thread(print, "in a thread")
print("in the generator")
yield "x"
print("after the item")
"""
    function = bench.function(source(lines, "async def"), id=id)
    async with bench.running(function, stream=True) as call:
        await call.first()
        async for _ in call.chunks():
            pass
    await until("three lines", lambda: len(bench.log(id)) == 3)
    assert {line.call for line in bench.executor.logs.tail(id)} == {call.id}


async def test_output_of_a_subprocess(bench: Bench, id: str) -> None:
    lines = "subprocess.run(['sh', '-c', 'echo out; echo err >&2; printf unfinished'])\nos.write(1, b'\\nraw\\n')"
    found = await lines_of(bench, id, lines, 4)
    assert [line.text for line in found] == ["out", "err", "unfinished", "raw"]
    assert all(line.call is None for line in found)


async def test_bytes_that_are_no_text_do_no_harm(bench: Bench, id: str) -> None:
    found = await lines_of(bench, id, "os.write(1, b'\\xff\\xfe\\x00 end\\n' + b'y' * 20_000 + b'\\n')", 2)
    assert found[0].text.endswith(" end")
    assert max(len(line.text) for line in found) <= 8192


async def test_binary_streams_are_there(bench: Bench, id: str) -> None:
    lines = "sys.stdout.buffer.write(b'bytes\\n')\nsys.stdout.buffer.flush()\nsys.__stdout__.write('original\\n')"
    found = await lines_of(bench, id, lines, 2)
    assert sorted(line.text for line in found) == ["bytes", "original"]


async def test_streams_answer_what_libraries_ask(bench: Bench, id: str) -> None:
    lines = "return [sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.fileno(), sys.stderr.fileno()].__str__()"
    assert await bench.call(bench.function(source(lines), id=id)) == "[False, 'utf-8', 1, 2]"


async def test_segfault_leaves_a_traceback(bench: Bench, id: str) -> None:
    """The last words before the worker is gone, and where it was."""
    function = bench.function(source("print('going')\nctypes.string_at(0)"), id=id)
    with pytest.raises(WorkerDied, match="SIGSEGV"):
        await bench.call(function)
    await until("the traceback", lambda: any("main.py" in line for line in bench.log(id)))
    log = bench.log(id)
    assert log[0] == "going"
    assert any("Segmentation fault" in line for line in log)


@pytest.mark.parametrize("end", ["os._exit(1)", "os.kill(os.getpid(), 9)"])
async def test_last_words_are_kept(bench: Bench, id: str, end: str) -> None:
    function = bench.function(source(f"print('first')\nprint('last')\ntime.sleep(0.1)\n{end}"), id=id)
    with pytest.raises(WorkerDied):
        await bench.call(function)
    assert bench.log(id) == ["first", "last"]


async def test_last_words_just_before_an_exception(bench: Bench, id: str) -> None:
    function = bench.function(source("print('before')\nraise ValueError"), id=id)
    with pytest.raises(FnsyncError):
        await bench.call(function)
    await until("the line", lambda: bench.log(id) == ["before"])


async def test_only_the_newest_thousand_lines_are_kept(bench: Bench, id: str) -> None:
    lines = "for n in range(3000):\n    print(n)\n    if n % 100 == 0: time.sleep(0.02)"
    await bench.call(bench.function(source(lines), id=id))
    await until("the last line", lambda: bench.log(id)[-1:] == ["2999"])
    log = bench.log(id)
    assert len(log) == 1000
    assert [line.text for line in bench.executor.logs.tail(id, 2)] == ["2998", "2999"]
    assert bench.executor.logs.tail(id, 0) == []


async def test_dropped_lines_are_counted(bench: Bench, id: str) -> None:
    await bench.call(bench.function(source("for n in range(200_000): print(n)"), id=id, timeout_s=30))
    await until("a note", lambda: any("lines were dropped" in line for line in bench.log(id)))
    seen = [line for line in bench.executor.logs.tail(id) if line.logger == "fnsync"]
    assert seen[0].level == "WARNING"


async def test_every_line_is_either_kept_or_counted(bench: Bench, id: str) -> None:
    told: list[LogLine] = []
    bench.executor.logs.on_line = lambda line: told.append(line) if line.function == id else None
    try:
        await bench.call(bench.function(source("for n in range(50_000): print(n)\nprint('end')"), id=id, timeout_s=30))
        await asyncio.sleep(0.1)
    finally:
        bench.executor.logs.on_line = None
    notes = [line.text for line in told if line.logger == "fnsync"]
    dropped = sum(int(note.split()[0].replace(",", "")) for note in notes)
    assert dropped + len(told) - len(notes) == 50_001


async def test_dropped_raw_output_is_counted_even_at_the_end(bench: Bench, id: str) -> None:
    lines = "for _ in range(2000): os.write(1, b'x' * 1023 + b'\\n')\nos._exit(1)"
    with pytest.raises(WorkerDied):
        await bench.call(bench.function(source(lines), id=id))
    await until("a note", lambda: any("bytes of output were dropped" in line for line in bench.log(id)), 5)


async def test_follow_gives_lines_as_they_come(bench: Bench, id: str) -> None:
    function = bench.function(source("print(body['n'])"), id=id)
    await bench.call(function, body={"n": 0})
    await until("the first line", lambda: bench.log(id) == ["0"])
    feed = bench.executor.logs.follow(id)
    waiting = asyncio.ensure_future(anext(feed))
    await asyncio.sleep(0)
    await bench.call(function, body={"n": 1})
    assert (await within(5, "the line", waiting)).text == "1"
    for n in range(2, 6):
        await bench.call(function, body={"n": n})
        assert (await within(5, "the line", anext(feed))).text == str(n)
    await feed.aclose()  # type: ignore[attr-defined]
    assert bench.log(id) == [str(n) for n in range(6)]


async def test_slow_follower_loses_the_oldest(bench: Bench, id: str) -> None:
    feed = bench.executor.logs.follow(id)
    waiting = asyncio.ensure_future(anext(feed))
    await asyncio.sleep(0)
    lines = "for n in range(2500):\n    print(n)\n    if n % 100 == 0: time.sleep(0.02)"
    await bench.call(bench.function(source(lines), id=id))
    await until("the last line", lambda: bench.log(id)[-1:] == ["2499"])
    assert (await waiting).text in ("0", "1500")
    rest = [(await within(5, "a line", anext(feed))).text for _ in range(999)]
    assert rest[-1] in ("2498", "2499")
    await feed.aclose()  # type: ignore[attr-defined]
