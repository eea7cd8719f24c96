"""Failed logins: who guesses has to wait, who was let in before need not, and neither takes memory without end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from fnsync.api import logins
from fnsync.api.auth import Auth
from fnsync.api.exchange import Exchange
from fnsync.api.logins import Logins
from fnsync.config import AuthConfig, RateLimits
from fnsync.errors import FnsyncError, RateLimited, Unauthorized
from fnsync.model import Rate
from fnsync.store.state import State
from tests.conftest import NO_CERTIFICATES, Project, Server, wait_for


def ask(server: Server, token: str) -> httpx.Response:
    return httpx.get(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {token}"}, verify=NO_CERTIFICATES)


def refused(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.status_code == 429 else None


def test_after_some_wrong_tokens_an_address_has_to_wait(project: Project, start_server: Callable[..., Server]) -> None:
    server = start_server(project, environ={"FNSYNC_RATE_LIMITS__LOGINS": "5/hour"})
    good, fresh = server.add_token("user"), server.add_token("admin")
    wait_for("the good token", lambda: ask(server, good).status_code == 200)

    answers = [ask(server, f"wrong-{number}") for number in range(7)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
    assert 600 < int(answers[-1].headers["retry-after"]) <= 720, "one failure is forgotten every 12 minutes"
    assert answers[-1].json()["error"]["code"] == "rate_limited"
    elsewhere = httpx.get(f"{server.url}/api/status", headers={"Authorization": "Bearer wrong"}, verify=NO_CERTIFICATES)
    assert (elsewhere.status_code, elsewhere.json()["detail"]) == (429, "too many wrong tokens came from this address")

    assert ask(server, good).status_code == 200, "it was let in from here before"
    assert ask(server, fresh).status_code == 429, "it was not"
    assert httpx.get(f"{server.url}/v1/models").status_code == 401, "showing no token is no guess"
    assert "wrong-" not in server.log()
    assert '"address": "127.0.0.1", "event": "too_many_wrong_tokens"' in server.log()


def test_who_has_waited_gets_in(project: Project, start_server: Callable[..., Server]) -> None:
    server = start_server(project, environ={"FNSYNC_RATE_LIMITS__LOGINS": "2/4s"})
    token = server.add_token("user")
    blocked = wait_for("the block", lambda: refused(ask(server, "wrong")))
    time.sleep(int(blocked.headers["retry-after"]))

    assert ask(server, token).status_code == 200


def test_twenty_wrong_tokens_a_minute_are_allowed_unless_said_otherwise() -> None:
    assert RateLimits().logins == Rate(20, 60.0)


def test_a_revoked_token_is_refused_during_the_block_too(project: Project, start_server: Callable[..., Server]) -> None:
    server = start_server(project, environ={"FNSYNC_RATE_LIMITS__LOGINS": "1/hour"})
    token = server.add_token("user")
    wait_for("the token", lambda: ask(server, token).status_code == 200)
    assert ask(server, "wrong").status_code == 401
    assert ask(server, token).status_code == 200

    with server.state() as state:
        state.revoke(token.split("_")[1])
    wait_for("the revoked token to be refused", lambda: ask(server, token).status_code == 429)


def test_the_database_is_not_asked_during_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State.open(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    asked: list[int] = []

    def generation() -> int:
        asked.append(State.generation(state))
        return asked[-1]

    monkeypatch.setattr(state, "generation", generation)

    async def guess(auth: Auth, address: str, error: type[FnsyncError]) -> FnsyncError:
        with pytest.raises(error) as caught:
            await auth.caller(exchange("fns_00000000_wrong", address))
        return caught.value

    async def guesses() -> None:
        auth = Auth(state, AuthConfig(), Rate(3, 3600.0), {}, asyncio.Event())
        for _ in range(3):
            await guess(auth, "192.0.2.1", Unauthorized)
        before = len(asked)
        assert before > 0
        for _ in range(10):
            blocked = await guess(auth, "192.0.2.1", RateLimited)
            assert isinstance(blocked, RateLimited) and 1100 < blocked.retry_after_s <= 1200
        assert len(asked) == before
        await guess(auth, "192.0.2.2", Unauthorized)

    asyncio.run(guesses())
    state.close()


def exchange(token: str, address: str) -> Exchange:
    async def nothing(*_: object) -> None:
        raise AssertionError

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/models",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
        "client": (address, 1),
    }
    return Exchange(scope, nothing, nothing, lambda: False)  # type: ignore[arg-type]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_failures_are_forgotten_one_by_one() -> None:
    clock = Clock()
    counted = Logins(Rate(3, 60.0), clock)
    for _ in range(3):
        assert counted.wait_s("192.0.2.1") == 0
        counted.failed("192.0.2.1")
    assert counted.wait_s("192.0.2.1") == pytest.approx(20)
    assert counted.wait_s("192.0.2.2") == 0

    clock.now += 20
    assert counted.wait_s("192.0.2.1") == 0
    counted.failed("192.0.2.1")
    assert counted.wait_s("192.0.2.1") == pytest.approx(20)
    clock.now += 3600
    for _ in range(3):
        assert counted.wait_s("192.0.2.1") == 0
        counted.failed("192.0.2.1")
    assert counted.wait_s("192.0.2.1") == pytest.approx(20)


def test_a_subscriber_of_ipv6_is_one_address_and_not_all_of_ipv4() -> None:
    counted = Logins(Rate(1, 60.0), Clock())
    counted.failed("2001:db8:1:2::1")
    assert counted.wait_s("2001:db8:1:2:ffff::2") > 0
    assert counted.wait_s("2001:db8:1:3::1") == 0

    counted.failed("::ffff:192.0.2.1")
    assert counted.wait_s("192.0.2.1") > 0
    assert counted.wait_s("::ffff:192.0.2.2") == 0
    counted.failed("")
    assert counted.wait_s("") > 0


def test_neither_failures_nor_accepted_tokens_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "MANY_ADDRESSES", 100)
    monkeypatch.setattr(logins, "MANY_LOGINS", 100)
    counted = Logins(Rate(1, 60.0), Clock())
    for number in range(1000):
        counted.failed(f"host-{number}")
        counted.failed("host-0")
        counted.accepted(f"host-{number}", b"digest")
    assert len(counted._over_at) == len(counted._accepted) == 100
    assert counted.wait_s("host-0") > 0, "the one that failed longest ago goes first"
    assert counted.knows("host-999", b"digest") and not counted.knows("host-0", b"digest")


def test_unlimited_counts_nothing() -> None:
    counted = Logins(None)
    for _ in range(1000):
        counted.failed("192.0.2.1")
    assert counted.wait_s("192.0.2.1") == 0
