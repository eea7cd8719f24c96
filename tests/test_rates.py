"""Rate limits: who may call how often, and what answers tell of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fnsync.chat import windows
from fnsync.chat.rates import Rates
from fnsync.chat.windows import Windows
from fnsync.config import RateLimits
from fnsync.errors import RateLimited
from fnsync.model import Rate, User
from tests.conftest import Project, Server

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
SAYS = "class Pipe:\n    def pipe(self, body):\n        return 'said'\n"
STREAMS = "class Pipe:\n    def pipe(self, body):\n        yield 'said'\n"
RAISES = "class Pipe:\n    def pipe(self, body):\n        raise ValueError('no')\n"

CONFIG = """
rate_limits:
  user: 3/day
  users: {"Bea@example.org": 1/day, cleo@example.org: unlimited, root@example.org: 2/day}
"""


# ---- counting --------------------------------------------------------------------------------------------


class Clock:
    """The time, which stands still."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


def test_a_call_passes_when_the_one_that_many_before_it_has_left_the_window(clock: Clock) -> None:
    counted, rate = Windows(), Rate(2, 60.0)
    assert [counted.take("a", rate).taken for _ in range(3)] == [True, True, False]
    clock.now += 30
    assert counted.take("b", rate).remaining == 1, "others have windows of their own"
    refused = counted.take("a", rate)
    assert (refused.taken, refused.remaining, refused.reset_at) == (False, 0, clock.now + 30)

    clock.now += 30.001
    assert [counted.take("a", rate).taken for _ in range(3)] == [True, True, False]


def test_a_large_limit_is_counted_and_not_kept_call_by_call(clock: Clock) -> None:
    counted, rate = Windows(), Rate(5_000, 100.0)
    assert sum(counted.take("a", rate).taken for _ in range(5_100)) == 5_000
    assert counted.storage.calls == 0

    clock.now += 150
    passed = sum(counted.take("a", rate).taken for _ in range(5_100))
    assert passed == pytest.approx(2_500, abs=2), "half a window after it, half of them count"


def test_periods_are_whole_seconds(clock: Clock) -> None:
    assert Windows().take("a", Rate(5, 0.5)).limit == 10
    assert Windows().take("a", Rate(1, 3600.0)).limit == 1


def test_what_is_kept_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MOST_CALLS", 100)
    monkeypatch.setattr(windows, "MOST_COUNTERS", 10)
    counted, few, many = Windows(), Rate(4, 60.0), Rate(5_000, 60.0)
    for number in range(500):
        counted.take(f"caller {number}", few)
        counted.take("steady", few)
        counted.take(f"caller {number}", many)

    assert counted.storage.calls == sum(map(len, counted.storage.events.values())) <= 100
    assert len(counted.storage.storage) <= 10
    assert not counted.take("steady", few).taken, "who calls most often is forgotten last"


def test_nothing_is_counted_without_a_limit() -> None:
    rates, ada = Rates(RateLimits()), User("1", "Ada", "ada@example.org", "user")

    assert rates.of_caller(ada) is None
    assert rates._windows is None


def test_a_caller_over_the_limit_is_told_when_to_come_back(clock: Clock) -> None:
    rates, ada = Rates(RateLimits.model_validate({"user": "1/minute"})), User("1", "Ada", "ada@example.org", "user")
    rates.of_caller(ada)
    clock.now += 15

    with pytest.raises(RateLimited) as caught:
        rates.of_caller(ada)
    assert caught.value.retry_after_s == 45
    assert caught.value.message == "ada@example.org has 1 calls in 1m, and has had them"


# ---- over HTTP -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with limits of each kind."""
    project = Project(Path(tmp_path_factory.mktemp("limited")) / "project")
    project.configure(CONFIG)
    project.write("free.py", SAYS)
    project.write("streams.py", STREAMS)
    project.write("raises.py", RAISES)
    project.write("scarce.py", SAYS)
    project.write("scarce.yaml", "limits: {rate: 3/day}\n")
    project.write("button.py", "class Action:\n    def action(self, body):\n        return {}\n")
    project.write("button.yaml", "global: true\nlimits: {rate: 2/day}\n")
    project.write("each.py", SAYS)
    project.write("each.yaml", "limits: {rate: 100/day, user_rate: 1/day}\n")
    server = Server(project)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def ask(client: httpx.Client, model: str = "free", **more: object) -> httpx.Response:
    return client.post(CHAT, json={"model": model, "messages": HELLO, **more})


def told(answer: httpx.Response) -> tuple[int, int, int]:
    """Status, limit, remaining."""
    assert int(answer.headers["x-ratelimit-reset"]) > time.time()
    return answer.status_code, int(answer.headers["x-ratelimit-limit"]), int(answer.headers["x-ratelimit-remaining"])


def test_each_answer_of_a_limited_caller_tells_what_is_left(limited: Server) -> None:
    tokens = [limited.add_token("user", "ada@example.org") for _ in range(2)]
    with limited.client(tokens[0]) as one, limited.client(tokens[1]) as two:
        assert told(ask(one)) == (200, 3, 2)
        assert told(ask(two, "streams", stream=True)) == (200, 3, 1), "all tokens of a user count together"
        assert told(ask(one, "raises")) == (500, 3, 0), "errors tell it too"
        refused = ask(two)
        assert told(refused) == (429, 3, 0)
        assert len(refused.headers.get_list("x-ratelimit-limit")) == 1
        assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
        assert refused.json()["error"]["code"] == "rate_limited"
        assert refused.json()["error"]["message"] == "ada@example.org has 3 calls in 1d, and has had them"


def test_a_users_own_limit_goes_above_that_of_the_role(limited: Server) -> None:
    with limited.client(limited.add_token("user", "bea@example.org")) as bea:
        assert [ask(bea).status_code for _ in range(2)] == [200, 429]
    with limited.client(limited.add_token("user", "cleo@example.org")) as cleo:
        answers = [ask(cleo) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        assert "x-ratelimit-limit" not in answers[-1].headers
    with limited.client(limited.add_token("admin", "root@example.org")) as root, limited.client() as admin:
        assert [ask(root).status_code for _ in range(3)] == [200, 200, 429]
        assert {ask(admin).status_code for _ in range(5)} == {200}, "admins have none of their own here"


def test_a_functions_limit_holds_for_all_callers_and_every_way_to_call_it(limited: Server) -> None:
    with limited.client(limited.add_token("user", "cleo@example.org")) as cleo, limited.client() as admin:
        assert told(ask(cleo, "scarce")) == (200, 3, 2)
        assert told(ask(admin, "scarce")) == (200, 3, 1)
        invoked = "/api/functions/id/scarce/invoke"
        assert told(admin.post(invoked, json={"body": {"messages": HELLO}})) == (200, 3, 0)
        assert told(ask(cleo, "scarce")) == (429, 3, 0)
        answer = admin.post(invoked, json={"body": {"messages": HELLO}})
        assert told(answer) == (429, 3, 0)
        assert answer.json()["detail"] == "scarce has 3 calls in 1d, and has had them"


def test_actions_are_counted_as_all_calls_are(limited: Server) -> None:
    pressed = {"model": "free", "messages": HELLO, "chat_id": "c", "session_id": "s", "id": "m"}
    with limited.client(limited.add_token("user", "emil@example.org")) as emil, limited.client() as admin:
        answers = [client.post("/api/chat/actions/button", json=pressed) for client in (emil, admin, admin)]
        assert [told(answer) for answer in answers] == [(200, 2, 1), (200, 2, 0), (429, 2, 0)]
        assert told(ask(emil)) == (200, 3, 1), "and so are those of a user"


def test_a_function_can_be_limited_for_each_user(limited: Server) -> None:
    with limited.client(limited.add_token("user", "cleo@example.org")) as cleo, limited.client() as admin:
        assert told(ask(cleo, "each")) == (200, 1, 0), "the limit with least left is told"
        assert told(ask(cleo, "each"))[0] == 429
        assert told(ask(admin, "each")) == (200, 1, 0)


def test_lists_and_unlimited_calls_are_not_counted(limited: Server) -> None:
    with limited.client(limited.add_token("user", "dora@example.org")) as dora:
        assert "x-ratelimit-limit" not in dora.get("/v1/models").headers
        assert told(ask(dora)) == (200, 3, 2)
        assert told(ask(dora, "unknown")) == (404, 3, 1), "asking for what is not there counts"
