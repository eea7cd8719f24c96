"""Tokens over HTTP: who gets in, and how fast a new or revoked token counts."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest

from tests.conftest import NO_CERTIFICATES, Project, Server, wait_for


def listing(server: Server, authorization: str | None) -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.get(f"{server.url}/v1/models", headers=headers, verify=NO_CERTIFICATES)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Basic dGVzdA==",
        "Token {token}",
        "{token}",
        "Bearer {token}x",
        "Bearer x{token}",
        "Bearer fns_",
        "Bearer fns_00000000_secret",
        "Bearer " + "a" * 5000,
    ],
)
def test_without_a_known_token_nothing_is_told(server: Server, authorization: str | None) -> None:
    answer = listing(server, authorization and authorization.format(token=server.token))

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_admin_token_from_the_environment_gets_in(server: Server, scheme: str) -> None:
    assert listing(server, f"{scheme} {server.token}").status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat/completions", "/api/v1/chat/completions"])
def test_who_calls_is_asked_before_the_body_is_read(server: Server, path: str) -> None:
    answer = httpx.post(f"{server.url}{path}", content=b"{", verify=NO_CERTIFICATES)

    assert answer.status_code == 401
    assert ("error" if path.startswith("/v1/") else "detail") in answer.json()


@pytest.mark.parametrize("path", ["/api/status", "/api/functions/id/any/logs", "/api/v1/functions/id/any/logs"])
def test_operations_need_an_admin(server: Server, user_client: httpx.Client, path: str) -> None:
    assert httpx.get(f"{server.url}{path}", verify=NO_CERTIFICATES).status_code == 401

    answer = user_client.get(path)
    assert answer.status_code == 401
    assert answer.json()["detail"] == "this needs an admin's token"


def test_a_pending_user_is_refused(server: Server) -> None:
    answer = listing(server, f"Bearer {server.add_token('pending')}")

    assert answer.status_code == 401
    assert "waiting for an admin" in answer.json()["error"]["message"]


def test_a_new_token_counts_at_once_and_a_revoked_one_soon_no_more(server: Server) -> None:
    token = server.add_token("user")
    wait_for("the new token to count", lambda: listing(server, f"Bearer {token}").status_code == 200, 0.5)

    with server.state() as state:
        assert state.revoke(token.split("_")[1])

    wait_for("the revoked token to be refused", lambda: listing(server, f"Bearer {token}").status_code == 401, 3)


def test_the_last_use_of_a_token_is_noted_and_not_each(server: Server) -> None:
    token = server.add_token("user", "once@example.org")
    began = int(time.time())
    assert listing(server, f"Bearer {token}").status_code == 200

    with server.state() as state:

        def used_at() -> int | None:
            return next(known.last_used_at for known in state.tokens() if known.id == token.split("_")[1])

        noted = wait_for("the use to be noted", used_at, 5)
        assert noted >= began
        wait_for("a later second", lambda: int(time.time()) > noted)
        assert listing(server, f"Bearer {token}").status_code == 200
        time.sleep(1.5)  # longer than the server takes between two looks
        assert used_at() == noted, "noted once a minute"


def test_the_last_use_before_a_stop_is_noted(project: Project, start_server: Callable[..., Server]) -> None:
    server = start_server(project)
    token = server.add_token("user")
    wait_for("the token", lambda: listing(server, f"Bearer {token}").status_code == 200)
    assert server.stop() == 0

    with server.state() as state:
        assert [known.last_used_at is not None for known in state.tokens()] == [True]


def test_a_token_with_another_secret_of_a_known_id_is_refused(server: Server) -> None:
    token = server.add_token("user")
    assert listing(server, f"Bearer {token}").status_code == 200

    id, _, secret = token.removeprefix("fns_").partition("_")
    assert listing(server, f"Bearer fns_{id}_{secret[::-1]}").status_code == 401
    assert listing(server, f"Bearer fns_{id}_").status_code == 401


def test_the_generated_admin_token_gets_in(project: Project, start_server: Callable[..., Server]) -> None:
    server = start_server(project, environ={"FNSYNC_ADMIN_TOKEN": ""})
    token = (server.data / "admin-token").read_text().strip()

    wait_for("the token table", lambda: listing(server, f"Bearer {token}").status_code == 200)
    assert listing(server, "Bearer x").status_code == 401


# ---- the cookie ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cookie", ["token={token}", "a=b; token={token}; c=d", 'token="{token}"', "x=y;token={token}"])
def test_a_cookie_counts_where_nothing_is_changed(server: Server, cookie: str) -> None:
    headers = {"Cookie": cookie.format(token=server.token)}

    assert httpx.get(f"{server.url}/v1/models", headers=headers, verify=NO_CERTIFICATES).status_code == 200
    assert httpx.head(f"{server.url}/api/status", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/chat/completions"), ("POST", "/api/users"), ("PUT", "/api/users/x"), ("DELETE", "/api/users/x")],
)
def test_a_cookie_does_not_count_where_another_site_could_have_it_sent(server: Server, method: str, path: str) -> None:
    answer = httpx.request(method, f"{server.url}{path}", headers={"Cookie": f"token={server.token}"})

    assert answer.status_code == 401
    assert "a cookie counts for GET and HEAD only" in answer.text


@pytest.mark.parametrize(
    "cookie", ["token=", "token=wrong", "tokens={token}", "x=token={token}", "token=" + "a" * 2000]
)
def test_another_cookie_gets_nobody_in(server: Server, cookie: str) -> None:
    headers = {"Cookie": cookie.format(token=server.token)}

    assert httpx.get(f"{server.url}/v1/models", headers=headers, verify=NO_CERTIFICATES).status_code == 401


def test_the_header_goes_before_the_cookie(server: Server) -> None:
    headers = {"Authorization": "Bearer wrong", "Cookie": f"token={server.token}"}

    assert httpx.get(f"{server.url}/v1/models", headers=headers, verify=NO_CERTIFICATES).status_code == 401


def test_no_token_is_written_to_the_log(server: Server) -> None:
    token = server.add_token("user")
    assert listing(server, f"Bearer {token}").status_code == 200
    assert listing(server, "Bearer fns_00000000_neverlogged").status_code == 401
    time.sleep(0.1)

    assert token not in server.log()
    assert "neverlogged" not in server.log()
    assert server.token not in server.log()
