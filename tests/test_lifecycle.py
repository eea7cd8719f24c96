"""Lifecycle events: which there are, what event functions are given, and how they get there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from fnsync.changes import LiveChange
from fnsync.chat import inboxes
from fnsync.chat.lifecycle import Lifecycle, told_of
from fnsync.model import Access, Frontmatter, FunctionId, Kind, Limits, LiveFunction, Manifest, Revision, Settings, User
from fnsync.registry import Registry
from tests.conftest import Project, Server, wait_for
from tests.recordings import Recall, differences
from tests.workbench import Bench

RECORDING = Path(__file__).parent / "data/lifecycle/event-function.json"
PIPE = "class Pipe:\n    def pipe(self, body):\n        return 'said'\n"
VALVED = """
from pydantic import BaseModel

class Pipe:
    class Valves(BaseModel):
        limit: int = 1
        api_key: str = ""

    class UserValves(BaseModel):
        style: str = "plain"

    def pipe(self, body):
        return "said"
"""
#: What is written to the descriptor is read to its end, also when the worker ends right behind the last event.
PRINTS = """
import json
import os

class Event:
    def event(self, event, __id__=None, __event_name__=None, __event_id__=None):
        same = (__event_name__, __event_id__) == (event["event"], event["id"])
        os.write(1, json.dumps({"as": __id__, "same": same, "event": event}).encode() + b"\\n")
"""
ADA = User("7", "Ada", "ada@example.org", "user")


# ---- what a change comes to ------------------------------------------------------------------------------


def live(**changed: Any) -> LiveFunction:
    function = LiveFunction(
        id=FunctionId("f"),
        name="F",
        kind=Kind.PIPE,
        revision=Revision("1" * 64),
        path="f.py",
        entry="function/main.py",
        manifest=Manifest(Kind.PIPE),
        frontmatter=Frontmatter(),
        settings=Settings(),
        limits=Limits(),
        active=True,
        environment="base",
        updated_at=0,
    )
    return replace(function, **changed)


ABOUT = {"type": "pipe", "name": "F"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, live(), [("function.created", ABOUT)]),
        (live(), None, [("function.deleted", {})]),
        (live(), live(updated_at=7, commit="a" * 40), []),
        (live(), live(revision=Revision("2" * 64)), [("function.updated", ABOUT)]),
        (live(), live(name="G"), [("function.updated", {"type": "pipe", "name": "G"})]),
        (live(), live(settings=Settings(access=Access(roles=("user",)))), [("function.updated", ABOUT)]),
        (live(), live(settings=Settings(is_global=True)), [("function.updated", {**ABOUT, "is_global": True})]),
        (live(), live(settings=Settings(valves={"api_key": "k"})), [("function.valves_updated", {})]),
        (live(), live(active=False, settings=Settings(active=False)), [("function.disabled", ABOUT)]),
        (live(active=False), live(), [("function.enabled", ABOUT)]),
        (
            live(active=False),
            live(revision=Revision("2" * 64), settings=Settings(valves={"a": 1})),
            [("function.updated", ABOUT), ("function.valves_updated", {}), ("function.enabled", ABOUT)],
        ),
    ],
)
def test_a_change_is_told_by_what_differs(
    before: LiveFunction | None, after: LiveFunction | None, told: list[tuple[str, dict[str, Any]]]
) -> None:
    assert list(told_of(LiveChange(FunctionId("f"), before is not None, before, after, None))) == told


def test_of_what_was_there_before_a_start_only_its_end_can_be_told() -> None:
    assert list(told_of(LiveChange(FunctionId("f"), True, None, live(), None))) == []
    assert list(told_of(LiveChange(FunctionId("f"), True, None, None, None))) == [("function.deleted", {})]


# ---- what a function is given ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": uvloop.new_event_loop}


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Bench(tmp_path_factory.mktemp("events")) as bench:
        yield bench


@pytest.mark.anyio
@pytest.mark.parametrize(
    "signature",
    [
        "def event(self, **kwargs)",
        "async def event(self, **kwargs)",
        "def event(self, __app__, __id__, __event__, __event_id__, event, __request__, __event_name__)",
        "def event(self, event, __id__, **more)",
    ],
)
async def test_events_are_injected_by_name_and_kwargs_gets_all(bench: Bench, signature: str) -> None:
    source = f"""
        class Event:
            {signature}:
                given = dict(locals())
                given.pop("self")
                given |= given.pop("kwargs", {{}}) | given.pop("more", {{}})
                app = given.pop("__app__")
                same = given.pop("__event__") is given["event"]
                return {{**given, "app": type(app).__name__, "same": same}}
        """
    function = bench.function(source, id=f"given_{abs(hash(signature))}")
    event = {"event": "function.created", "id": "e-1"}
    given = await bench.call(function, handler="event", body=event, context={"__id__": "me"})

    assert given == {
        "event": event,
        "__event_name__": "function.created",
        "__event_id__": "e-1",
        "__id__": "me",
        "__request__": None,
        "app": "FastAPI",
        "same": True,
    }


# ---- how events get there --------------------------------------------------------------------------------


class Told:
    """A Lifecycle over functions of a bench."""

    def __init__(self, bench: Bench, *functions: LiveFunction, retry_s: Sequence[float] = (0.01, 0.01)) -> None:
        self.bench = bench
        self.registry = Registry()
        self.put(*functions)
        self.lifecycle = Lifecycle(bench.executor, self.registry, "1.0", {"7": 1234}.get, retry_s=retry_s)

    def put(self, *functions: LiveFunction) -> None:
        self.registry.publish(self.registry.world.changed({function.id: function for function in functions}))

    def publish(self, *names: str, **more: Any) -> None:
        for name in names:
            self.lifecycle.publish(name, **more)

    async def line(self, id: str, text: str) -> None:
        """Wait until the function's log has the text."""
        async with asyncio.timeout(20):
            while not any(text in line for line in self.bench.log(id)):
                await asyncio.sleep(0.01)


def receiver(bench: Bench, id: str, body: str, **limits: Any) -> LiveFunction:
    source = "import time\n\nclass Event:\n    seen = []\n    def event(self, event):\n        name = event['event']\n"
    source += "".join(f"        {line}\n" for line in body.splitlines())
    return replace(bench.function(source, id=id, **limits), kind=Kind.EVENT)


@pytest.mark.anyio
async def test_events_arrive_in_order_and_a_failed_one_is_tried_again_before_the_next(bench: Bench) -> None:
    body = """
self.seen.append(name)
print(name)
if name == "x.2" and self.seen.count(name) < 2:
    raise ValueError("once")
"""
    told = Told(bench, receiver(bench, "orderly", body))
    told.publish("x.1", "x.2", "x.3", "x.4")

    await told.line("orderly", "x.4")
    assert [line for line in bench.log("orderly") if line.startswith("x.")] == ["x.1", "x.2", "x.2", "x.3", "x.4"]


@pytest.mark.anyio
async def test_what_is_given_up_is_told_in_the_functions_log_and_the_next_goes_on(bench: Bench) -> None:
    body = "print(name)\nif name == 'x.bad':\n    raise ValueError('always')"
    told = Told(bench, receiver(bench, "failing", body))
    told.publish("x.bad", "x.good")

    await told.line("failing", "x.good")
    lines = bench.log("failing")
    assert [line for line in lines if line.startswith("x.")] == ["x.bad", "x.bad", "x.bad", "x.good"]
    [given_up] = [line for line in lines if "given up" in line]
    assert given_up.startswith("the event x.bad (") and given_up.endswith("is given up after 3 tries: always")


@pytest.mark.anyio
async def test_one_that_is_slow_holds_up_nobody(bench: Bench) -> None:
    slow = receiver(bench, "slow", "print('began')\ntime.sleep(600)", timeout_s=600.0)
    told = Told(bench, slow, receiver(bench, "quick", "print(name)"))
    told.publish("x.1", "x.2")

    await told.line("slow", "began")
    await told.line("quick", "x.2")
    began = asyncio.get_running_loop().time()
    await told.lifecycle._inboxes.close(0.1)
    assert asyncio.get_running_loop().time() - began < 5, "a stop waits for it only a while"


@pytest.mark.anyio
async def test_an_inbox_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "MOST_WAITING", 3)
    told = Told(bench, receiver(bench, "bounded", "print(name)"))
    told.publish(*(f"x.{number}" for number in range(10)))

    await told.line("bounded", "7 events were lost")
    told.publish("x.later")
    await told.line("bounded", "x.later")
    taken = [line for line in bench.log("bounded") if line.startswith("x.")]
    assert taken == ["x.0", "x.1", "x.2", "x.later"]


@pytest.mark.anyio
async def test_one_that_is_switched_off_gets_no_more_of_what_waits(bench: Bench) -> None:
    function = receiver(bench, "off", "print(name)\nraise ValueError('again')")
    told = Told(bench, function, retry_s=(0.05,) * 100)
    told.publish("x.1", "x.2")
    await told.line("off", "x.1")

    told.put(replace(function, active=False))
    await told.lifecycle.close()
    assert "x.2" not in bench.log("off")
    assert not any("given up" in line for line in bench.log("off"))


@pytest.mark.anyio
async def test_the_envelope_has_no_secrets_and_short_texts(bench: Bench) -> None:
    told = Told(bench, receiver(bench, "envelope", "import json\nprint(json.dumps(event))"))
    told.publish("x.y", data={"api_key": "k-1", "name": "n" * 5000}, function=FunctionId("f"), actor=ADA)

    await told.line("envelope", "x.y")
    [event] = map(json.loads, bench.log("envelope"))
    assert event["data"] == {"name": "n" * 1000}
    assert event["actor"] == {
        **{"id": "7", "name": "Ada", "email": "ada@example.org", "role": "user"},
        **{"created_at": 1234, "updated_at": 1234, "type": "user"},
    }
    assert (event["resource"], event["operation"], event["source"]) == ("x", "y", "api")


# ---- on a server -----------------------------------------------------------------------------------------


class Hooked:
    """A server with an event function that prints what it gets."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def events(self, subject: str | None, to: str = "hook") -> list[dict[str, Any]]:
        """What an event function got about a function; None: about the server."""
        with self.server.client() as client:
            lines = client.get(f"/api/functions/id/{to}/logs").json()["lines"]
        found = [json.loads(line["text"]) for line in lines]
        assert all(one["same"] and one["as"] == to for one in found)
        events = [one["event"] for one in found]
        return [event for event in events if (event["subject"] or {}).get("id") == subject]

    def wait(self, subject: str | None, *names: str) -> list[dict[str, Any]]:
        """Wait until the last events about a function are these; return them."""

        def told() -> list[dict[str, Any]]:
            events = self.events(subject)[-len(names) :]
            return events if [event["event"] for event in events] == list(names) else []

        return wait_for(f"{names} of {subject}", told)


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    """The server; at its end it has to tell of that, which spares a test that starts one to stop it."""
    project = Project(tmp_path_factory.mktemp("lifecycle") / "project")
    project.write("hook.py", PRINTS)
    project.write("there.py", PIPE)
    server = Server(project)
    try:
        server.wait_ready()
        yield Hooked(server)
    finally:
        server.stop()
    log = server.log()
    started, completed = log.find("system.shutdown.started"), log.find("system.shutdown.completed")
    assert 0 < log.find("system.startup.completed") < started < completed, log[-3000:]


def test_a_start_is_told_and_what_a_first_start_finds_is_not(hooked: Hooked) -> None:
    hooked.wait(None, "system.startup.completed")
    assert hooked.events("there") == []
    [started] = hooked.events(None)
    assert (started["source"], started["actor"], started["data"]) == ("system", None, {})


def test_files_and_commits_are_told_however_they_came(hooked: Hooked) -> None:
    server, project = hooked.server, hooked.server.project
    server.add("filed", VALVED)
    [created] = hooked.wait("filed", "function.created")
    assert (created["source"], created["actor"]) == ("system", None)
    assert created["data"] == {"type": "pipe", "name": "filed"}

    project.write("filed.yaml", "active: false\nvalves: {api_key: k-1}\n")
    told = hooked.wait("filed", "function.created", "function.valves_updated", "function.disabled")
    assert "k-1" not in json.dumps(told)
    project.write("filed.yaml", "valves: {limit: none}\n")
    server.settle("filed", "stale")
    hooked.wait("filed", "function.disabled", "function.enabled")
    project.commit("all of it")
    project.git("mv", "functions/filed.py", "functions/moved.py")
    project.git("rm", "--quiet", "-f", "functions/filed.yaml")
    hooked.wait("filed", "function.deleted")
    hooked.wait("moved", "function.created")
    project.git("reset", "--quiet", "--hard")
    hooked.wait("moved", "function.deleted")
    assert [event["event"] for event in hooked.events("moved")] == ["function.created", "function.deleted"]


def test_users_values_are_told_without_them(hooked: Hooked) -> None:
    server = hooked.server
    server.add("theirs", VALVED)
    hooked.wait("theirs", "function.created")
    with server.client(server.add_token("user", "ada@example.org")) as ada:
        at = "/api/functions/id/theirs/valves/user/update"
        assert ada.post(at, json={"style": "grand"}).status_code == 200
    _, told = hooked.wait("theirs", "function.created", "function.valves_updated")
    assert (told["data"], told["source"], told["actor"]["email"]) == ({"scope": "user"}, "api", "ada@example.org")


def test_event_functions_are_told_of_themselves_but_not_of_their_end(hooked: Hooked) -> None:
    server = hooked.server
    server.add("other", PRINTS, "active: false\n", status="inactive")
    hooked.wait("other", "function.created")
    with server.client() as client:
        for _ in range(2):
            assert client.post("/api/functions/id/other/toggle").status_code == 200
    hooked.wait("other", "function.created", "function.enabled", "function.disabled")

    own = wait_for("its own event", lambda: hooked.events("other", to="other"))
    assert [event["event"] for event in own] == ["function.enabled"]


def test_the_recorded_edits_are_told_as_open_webui_tells_them(hooked: Hooked) -> None:
    """But for the `…_started` events, which there are none of here, and for the version."""
    recording = json.loads(RECORDING.read_text())
    recall = Recall()
    count = 0

    def told() -> list[dict[str, Any]]:
        found = hooked.events("subject")
        return found if len(found) >= count else []

    with hooked.server.client() as client:
        for exchange in recording["exchanges"]:
            request = exchange["request"]
            answer: httpx.Response = client.request(request["method"], request["path"], json=request.get("json"))
            assert answer.status_code == exchange["response"]["status"], answer.text
            bodies = [one["request"]["json"] for one in exchange["upstream"]]
            wanted = [body["event"] for body in bodies if not body["name"].endswith("_started")]
            count += len(wanted)
            found = wait_for(f"the events of {request['path']}", told)
            for event, got in zip(wanted, found[count - len(wanted) :], strict=True):
                event["version"] = version("fnsync")
                event["actor"]["email"] = "admin@localhost"
                assert differences(event, got, event["event"], recall) == []
    assert len(told()) == count
