"""Notifications: what receivers get, and that one which fails, hangs or refuses harms neither others nor the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from fnsync import notifying
from fnsync.configgit import NotificationConfig
from fnsync.errors import ConfigError
from fnsync.model import LOCAL, FunctionId, Problem, Unit
from fnsync.notices import Conditions, Failing, notice
from fnsync.notifying import Notifier
from fnsync.plan import QUARANTINED, REMOVED_UPSTREAM, Standing
from fnsync.posting import ANSWER_BYTES, Poster
from fnsync.signatures import sign
from fnsync.status import failing_of
from tests.receiver import Answer, Receiver, closed_port, receiving
from tests.workbench import until

SECRET = "correct horse battery staple"
RETRIES = (0.01, 0.01, 0.01)
PULLED = {
    "url": "https://ada:s3cret@git.example.org/acme/functions.git?token=t0k3n",
    "branch": "main",
    "before": "a" * 40,
    "commit": "b" * 40,
    "subject": "Shout louder",
    "author": "Ada",
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


class Told:
    """A notifier and what the server behind it would say."""

    def __init__(self) -> None:
        self.failing: list[Failing] = []
        self.settled = asyncio.Event()
        self.settled.set()

    def notifier(self, *targets: tuple[str, str, tuple[str, ...]], **options: Any) -> Notifier:
        configs = [
            NotificationConfig.model_validate({"name": name, "url": url, "events": events, "secret": {"env": "SECRET"}})
            for name, url, events in targets
        ]

        async def settled() -> None:
            await self.settled.wait()

        options = {"retry_s": RETRIES, "poster": Poster(limit_s=60.0), **options}
        return Notifier(configs, {"SECRET": SECRET}, "1.0", settled, lambda source: self.failing, **options)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 90))  # type: ignore[arg-type]


def test_a_message_tells_what_became_of_a_sync_and_is_signed(receiver: Receiver) -> None:
    async def story() -> None:
        told = Told()
        notifier = told.notifier(("all", receiver.url, ("sync.*",)), ("few", receiver.url + "/few", ("sync.failed",)))
        told.settled.clear()
        notifier.hear("function.created", {})
        notifier.hear("sync.completed", PULLED)
        await asyncio.sleep(0)
        told.failing = [Failing("shout", "invalid syntax", "shout.py:3:1")]
        told.settled.set()
        await until("both messages", lambda: len(receiver.messages) == 2)
        await notifier.close()
        assert notifier.counts == {("all", "delivered"): 2}

    run(story)
    first, second = receiver.messages
    assert first.is_signed(SECRET) and second.is_signed(SECRET)
    assert first.headers["x-fnsync-event"] == "sync.completed" and first.path == "/in"
    assert first.headers["x-fnsync-delivery"] == first.said["id"] != second.said["id"]
    assert first.headers["user-agent"] == "fnsync/1.0"
    said = first.said
    assert abs(said.pop("at") - time.time()) < 60 and said.pop("id")
    assert said == {
        "event": "sync.completed",
        "source": "repository",
        "url": "https://git.example.org/acme/functions.git",
        "ref": "main",
        "commit": {"hash": "b" * 40, "subject": "Shout louder", "author": "Ada"},
        "previous": "a" * 40,
        "functions": {
            "loaded": None,
            "applied": None,
            "removed": None,
            "failed": [{"id": "shout", "message": "invalid syntax", "place": "shout.py:3:1"}],
        },
        "error": None,
    }
    assert second.said["event"] == "sync.degraded"
    assert second.said["error"] == {
        "code": "functions_failed",
        "message": "1 function does not load: shout",
        "hint": None,
    }


def test_what_fails_is_tried_again_in_order(receiver: Receiver) -> None:
    later: list[Answer | None] = [
        (500, {}, b"broken"),
        (429, {"Retry-After": "0"}, b""),
        (408, {}, b""),
        (204, {}, b""),
    ]

    async def story() -> None:
        receiver.then = later
        notifier = Told().notifier(("one", receiver.url, ("sync.*",)))
        notifier.hear("sync.held", {"source": "acme", "reason": "guard", "error": "too much", "hint": "force"})
        notifier.hear("sync.pushed", {"source": "acme"})
        await until("the messages", lambda: notifier.counts["one", "delivered"] == 2)
        assert notifier.status() == [{"name": "one", "waiting": 0, "error": None, "failing_since": None}]
        await notifier.close()

    run(story)
    assert receiver.events() == ["sync.held"] * 4 + ["sync.pushed"]
    held = receiver.messages[:4]
    assert len({message.body for message in held}) == 1 and all(message.is_signed(SECRET) for message in held)
    assert held[0].said["error"] == {"code": "guard", "message": "too much", "hint": "force"}
    assert held[0].said["source"] == "acme"


def test_what_the_receiver_wants_to_wait_is_waited(receiver: Receiver) -> None:
    async def story() -> None:
        receiver.then = [(503, {"Retry-After": "1"}, b"")]
        notifier = Told().notifier(("one", receiver.url, ("sync.*",)))
        began = time.monotonic()
        notifier.hear("sync.pushed", {})
        await until("the message", lambda: notifier.counts["one", "delivered"] == 1)
        assert time.monotonic() - began >= 1
        await notifier.close()

    run(story)


@pytest.mark.parametrize(
    ("answer", "tries"),
    [
        ((400, {}, b"no"), 1),
        ((410, {}, b""), 1),
        ((302, {"Location": "/elsewhere"}, b""), 1),
        ((500, {}, b""), len(RETRIES) + 1),
    ],
)
def test_what_is_in_vain_is_given_up(receiver: Receiver, answer: Answer, tries: int) -> None:
    async def story() -> None:
        receiver.then = [answer] * tries
        notifier = Told().notifier(("one", receiver.url, ("sync.*",)))
        notifier.hear("sync.pushed", {})
        await until("the end", lambda: notifier.counts["one", "given_up"] == 1)
        assert f"answered {answer[0]}" in notifier.status()[0]["error"]
        notifier.hear("sync.pushed", {})
        await until("the next", lambda: notifier.counts["one", "delivered"] == 1)
        await notifier.close()

    run(story)
    assert len(receiver.messages) == tries + 1 and all(message.path == "/in" for message in receiver.messages)


def test_one_that_hangs_holds_up_nobody_and_a_stop_does_not_wait_for_it(receiver: Receiver) -> None:
    async def story() -> None:
        receiver.then = [None]
        with receiving() as other:
            notifier = Told().notifier(
                ("hangs", receiver.url, ("sync.*",)),
                ("gone", f"http://127.0.0.1:{closed_port()}/secret-path", ("sync.*",)),
                ("good", other.url, ("sync.*",)),
                retry_s=(3600.0,),
                poster=Poster(limit_s=3600.0),
            )
            for _ in range(3):
                notifier.hear("sync.pushed", {})
            await until("the good one", lambda: notifier.counts["good", "delivered"] == 3)
            await until("the other's error", lambda: notifier.status()[1]["error"])
            assert "secret-path" not in str(notifier.status())
            began = time.monotonic()
            await notifier.close(0.3)
            assert time.monotonic() - began < 3
            assert notifier.counts["hangs", "dropped"] == 3 and notifier.counts["gone", "given_up"] == 3

    run(story)


def test_one_that_never_answers_is_left_after_a_while(receiver: Receiver) -> None:
    async def story() -> None:
        receiver.then = [None]
        notifier = Told().notifier(("one", receiver.url, ("sync.*",)), poster=Poster(limit_s=0.1))
        notifier.hear("sync.pushed", {})
        await until("the second try", lambda: notifier.counts["one", "delivered"] == 1)
        await notifier.close()

    run(story)


def test_a_queue_that_is_full_loses_its_oldest(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifying, "MOST_WAITING", 3)

    async def story() -> None:
        receiver.then = [None]
        notifier = Told().notifier(("one", receiver.url, ("sync.*",)))
        notifier.hear("sync.held", {"commit": "0"})
        await until("the first", lambda: receiver.messages)
        for number in range(1, 6):
            notifier.hear("sync.held", {"commit": str(number)})
        await until("the loss", lambda: notifier.counts["one", "dropped"] == 3)
        receiver.release.set()
        await until("the rest", lambda: notifier.counts["one", "delivered"] == 3)
        await notifier.close()

    run(story)
    assert [message.said["commit"]["hash"] for message in receiver.messages] == ["0", "0", "4", "5"]


def test_of_an_answer_only_the_beginning_is_read(receiver: Receiver) -> None:
    async def story() -> None:
        receiver.then = [(200, {"Content-Length": str(10**12), "Content-Encoding": "gzip"}, b"x" * 50_000)]
        notifier = Told().notifier(("one", receiver.url, ()))
        answered = await notifier.test("one")
        await notifier.close()
        assert answered is not None and answered.is_taken and len(answered.said) <= ANSWER_BYTES

    run(story)
    assert receiver.messages[0].said["event"] == "sync.test" and receiver.messages[0].is_signed(SECRET)


def test_no_log_has_an_address_or_a_secret(receiver: Receiver) -> None:
    """The path of an address may be all that a receiver asks for."""

    async def story() -> None:
        receiver.then = [(500, {}, b""), (400, {}, b"")]
        notifier = Told().notifier(("one", receiver.url + "/T0KEN", ("sync.*",)))
        notifier.hear("sync.completed", PULLED)
        await until("the end", lambda: notifier.counts["one", "given_up"] == 1)
        await notifier.close()

    with structlog.testing.capture_logs() as logs:
        run(story)
    assert [log["event"] for log in logs] == ["notification_retried", "notification_given_up"]
    assert not any(word in json.dumps(logs) for word in ("T0KEN", "127.0.0.1", SECRET, "s3cret", "t0k3n"))
    assert not any(word in receiver.messages[0].body for word in (b"s3cret", b"t0k3n"))


def test_a_secret_that_is_not_there_is_told() -> None:
    config = NotificationConfig.model_validate({"name": "one", "url": "http://h/", "secret": {"env": "MISSING"}})
    with pytest.raises(ConfigError, match="MISSING"):
        Notifier([config], {}, "1.0", lambda: asyncio.sleep(0), lambda source: ())


FAILING = [Failing("shout", "broken", "")]
FETCH, PUSH = {"code": "fetch_failed", "error": "away"}, {"code": "push_failed", "error": "refused"}


@pytest.mark.parametrize(
    ("events", "turns"),
    [
        ([("sync.completed", {}, [])], [None]),
        ([("sync.failed", FETCH, []), ("sync.failed", PUSH, [])], ["sync.degraded", None]),
        ([("sync.failed", FETCH, []), ("sync.completed", {}, [])], ["sync.degraded", "sync.recovered"]),
        ([("sync.failed", FETCH, []), ("sync.completed", {}, FAILING)], ["sync.degraded", None]),
        (
            [("sync.completed", {}, FAILING), ("sync.completed", {}, FAILING), ("sync.completed", {}, [])],
            ["sync.degraded", None, "sync.recovered"],
        ),
        (
            [("sync.failed", PUSH, []), ("sync.completed", {}, []), ("sync.pushed", {}, [])],
            ["sync.degraded", None, "sync.recovered"],
        ),
        ([("sync.held", {"error": "guard"}, []), ("sync.conflict", {}, [])], [None, None]),
        (
            [("sync.failed", {**FETCH, "source": "a"}, []), ("sync.completed", {"source": "b"}, [])],
            ["sync.degraded", None],
        ),
    ],
)
def test_when_a_source_is_degraded_and_when_it_recovers(
    events: list[tuple[str, dict[str, Any], list[Failing]]], turns: list[str | None]
) -> None:
    health = Conditions()
    found = [health.turned(event, data, failing) for event, data, failing in events]
    assert [turn and turn[0] for turn in found] == turns


def test_functions_that_stay_as_somebody_wants_it_do_not_fail() -> None:
    def standing(id: str, code: str, source: str = "acme") -> Standing:
        return Standing(Unit(FunctionId(id), f"{id}.py", None, source=source), problem=Problem(code, "told", "a.py", 3))

    standings = [
        standing("a", "syntax_error"),
        standing("b", QUARANTINED),
        standing("c", REMOVED_UPSTREAM),
        standing("d", "syntax_error", LOCAL),
        Standing(Unit(FunctionId("e"), "e.py", None, source="acme")),
    ]
    assert failing_of(standings, "acme") == [Failing("a", "told", "a.py:3")]
    assert [one.id for one in failing_of(standings, LOCAL)] == ["d"]


def test_a_receiver_can_check_it_as_the_documentation_says() -> None:
    text = (Path(__file__).parents[1] / "docs/sync.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    body, now = b'{"event": "sync.test"}', int(time.time())
    assert names["is_ours"](sign(SECRET, body, now), body, SECRET.encode())
    assert not names["is_ours"](sign(SECRET, body, now), body + b" ", SECRET.encode())
    assert not names["is_ours"](sign("another", body, now), body, SECRET.encode())
    assert not names["is_ours"](sign(SECRET, body, now - 400), body, SECRET.encode())


def test_a_message_is_bounded() -> None:
    many = [Failing(f"f{number}", "x" * 10_000, "") for number in range(5_000)]
    data = {"error": "e" * 100_000, "functions": {"loaded": ["id"] * 100_000, "removed": "no list"}}
    body = notice("sync.completed", 0.0, data, many).body
    assert len(body) < 300_000 and json.loads(body)["functions"]["removed"] is None
