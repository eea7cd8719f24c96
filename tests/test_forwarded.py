"""Service tokens: a chat server says for whom it calls, and cannot give more than its token's ceiling."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import httpx
import pytest

from fnsync.api.forwarded import user_of
from fnsync.errors import Invalid
from fnsync.model import Ceiling, User, lesser
from fnsync.store.state import ADMIN
from tests.conftest import Project, Server, wait_for

WHO = """
    import json

    class Pipe:
        def pipe(self, body, __user__):
            return json.dumps({key: __user__[key] for key in ("id", "name", "email", "role")})
"""
ZOE = {
    "X-OpenWebUI-User-Id": "7f3c",
    "X-OpenWebUI-User-Name": "Zo%C3%AB %C3%9Cnal",
    "X-OpenWebUI-User-Email": "Zoe@example.org",
    "X-OpenWebUI-User-Role": "user",
}


def named(**fields: str) -> dict[str, str]:
    """The headers of Zoë, with other values for some."""
    return ZOE | {f"X-OpenWebUI-User-{key.title()}": value for key, value in fields.items()}


def who(server: Server, token: str, headers: Any = ()) -> dict[str, Any]:
    """Who the server says is calling; the answer itself when it is an error."""
    if server.function("who") is None:
        server.add("who", WHO)
    body = {"model": "who", "messages": [{"role": "user", "content": "who am I?"}]}
    with server.client(token) as client:
        answer = client.post("/v1/chat/completions", json=body, headers=headers)
    if answer.status_code != 200:
        return {"status": answer.status_code, **answer.json()["error"]}
    return dict(json.loads(answer.json()["choices"][0]["message"]["content"]))


def status(server: Server, token: str, headers: Any = ()) -> int:
    """The status of a route for admins."""
    with server.client(token) as client:
        return client.get("/api/status", headers=headers).status_code


def test_a_service_token_calls_for_the_user_it_names(server: Server) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="user")

    assert who(server, token, ZOE) == {"id": "7f3c", "name": "Zoë Ünal", "email": "zoe@example.org", "role": "user"}


def test_a_service_token_that_names_nobody_is_its_owner_under_the_ceiling(server: Server) -> None:
    token = server.add_token("admin", "boss@example.org", ceiling="user")
    other = {"X-OpenWebUI-User-Groups": "admins", "X-OpenWebUI-Auth-Type": "jwt", "X-OpenWebUI-Chat-Id": "c"}

    for headers in ({}, other):
        caller = who(server, token, headers)
        assert (caller["email"], caller["role"]) == ("boss@example.org", "user")
    assert status(server, token) == 401
    assert status(server, server.add_token("admin", "boss@example.org", ceiling="admin")) == 200
    assert status(server, server.add_token("user", "chat@example.org", ceiling="admin")) == 401, (
        "an owner is not raised"
    )


def test_another_token_cannot_call_for_somebody_else(server: Server) -> None:
    token = server.add_token("user", "plain@example.org")

    assert who(server, token, named(role="admin"))["email"] == "plain@example.org"
    assert status(server, token, named(role="admin")) == 401
    assert who(server, server.token, ZOE)["id"] == "admin", "nor can the admin's"


@pytest.mark.parametrize(
    ("ceiling", "claimed", "role"),
    [
        ("user", "user", "user"),
        ("user", "admin", "user"),
        ("user", "root", "user"),
        ("user", "", "user"),
        ("admin", "user", "user"),
        ("admin", "admin", "admin"),
        ("admin", "Admin", "admin"),
        ("admin", "superadmin", "user"),
        ("admin", "", "user"),
    ],
)
def test_a_named_user_has_the_lesser_of_role_and_ceiling(
    server: Server, ceiling: Ceiling, claimed: str, role: str
) -> None:
    token = server.add_token("user", "chat@example.org", ceiling=ceiling)

    assert who(server, token, named(role=claimed))["role"] == role
    assert status(server, token, named(role=claimed)) == (200 if role == "admin" else 401)


def test_without_a_role_a_named_user_is_a_user(server: Server) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="admin")
    headers = {"X-OpenWebUI-User-Id": "7f3c"}

    assert who(server, token, headers) == {"id": "7f3c", "name": "7f3c", "email": "", "role": "user"}


@pytest.mark.parametrize("ceiling", ["user", "admin"])
def test_a_pending_user_is_refused_whoever_names_them(server: Server, ceiling: Ceiling) -> None:
    token = server.add_token("user", "chat@example.org", ceiling=ceiling)

    refused = who(server, token, named(role="pending"))
    assert refused["status"] == 401 and "waiting for an admin" in refused["message"]


def test_a_pending_owner_cannot_call_for_others(server: Server) -> None:
    token = server.add_token("pending", ceiling="user")

    assert who(server, token, ZOE)["status"] == 401


def test_the_id_of_a_local_user_is_refused(server: Server) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="admin")
    own = server.add_token("admin", "boss@example.org")
    boss = by_email(server, "boss@example.org")
    assert who(server, own)["id"] == boss.id

    for id in (boss.id, ADMIN.id):
        for headers in (named(id=id, role="admin"), {"X-OpenWebUI-User-Id": id}):
            refused = who(server, token, headers)
            assert (refused["status"], refused["code"]) == (401, "unauthorized")
            assert repr(id) in refused["message"] and "added here" in refused["message"]
        assert status(server, token, named(id=id, role="admin")) == 401
        with server.client(token) as client:
            assert client.get("/api/functions/id/who/valves/user", headers=named(id=id)).status_code == 401
    wait_for("somebody named later", lambda: who(server, token, named(id="later")) and known(server, "later"))
    assert known(server, boss.id) == boss, "and changes nothing of theirs"


def test_the_id_of_a_user_added_a_moment_ago_is_refused(server: Server, client: httpx.Client) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="user")
    assert who(server, token, ZOE)["id"] == "7f3c"
    added = client.post("/api/users", json={"email": "fresh@example.org"}).json()

    assert who(server, token, named(id=added["id"]))["status"] == 401

    client.delete(f"/api/users/{added['id']}")
    assert who(server, token, named(id=added["id"]))["id"] == added["id"], "nobody has the id any more"


def by_email(server: Server, email: str) -> User:
    with server.state() as state:
        found = state.user_by_email(email)
    assert found is not None
    return found


# ---- headers that cannot be taken ------------------------------------------------------------------------

BAD = {
    "a line break in the name": named(name="Zoe%0aX-Role:%20admin"),
    "a carriage return in the name": named(name="Zoe%0D"),
    "a null in the name": named(name="Zoe%00"),
    "an escape in the name": named(name="%1b[2J"),
    "a C1 control in the name": named(name="%C2%9B2J"),
    "a line separator in the name": named(name="Zoe%E2%80%A8x"),
    "a name of 10 KB": named(name="a" * 10_240),
    "an encoded name of 10 KB": named(name="%C3%AB" * 1_700),
    "a name of 256 characters": named(name="%C3%AB" * 256),
    "a name that is no UTF-8": named(name="%ff%fe"),
    "half a surrogate": named(name="%ED%A0%80"),
    "an encoded id": named(id="7f3c%0a"),
    "a raw tab in the id": named(id="7f\t3c"),
    "an id of 65 characters": named(id="a" * 65),
    "an empty id": named(id=""),
    "an address that reads as another's": named(email="%61da@example.org"),
    "an address of 10 KB": named(email="a" * 10_240),
    "a role of 10 KB": named(role="a" * 10_240),
    "an encoded role": named(role="%61dmin"),
}


@pytest.mark.parametrize("case", BAD)
def test_headers_that_cannot_be_taken_are_refused(server: Server, case: str) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="admin")

    refused = who(server, token, BAD[case])
    assert (refused["status"], refused["code"]) == (400, "invalid"), refused
    assert refused["param"].startswith("X-OpenWebUI-User-")
    assert "\n" not in refused["message"] and len(refused["message"]) < 200


def test_bytes_that_are_no_utf_8_are_refused(server: Server) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="user")

    refused = who(server, token, [(b"X-OpenWebUI-User-Id", b"\xff\xfe")])
    assert refused["status"] == 400 and "not UTF-8" in refused["message"]


def test_a_header_that_is_there_twice_is_refused(server: Server) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="user")

    refused = who(server, token, [*ZOE.items(), ("x-openwebui-user-id", "other")])
    assert refused["status"] == 400 and "twice" in refused["message"]


def test_a_name_without_an_id_names_nobody(server: Server) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="user")

    refused = who(server, token, {"X-OpenWebUI-User-Email": "zoe@example.org"})
    assert refused["status"] == 400 and "X-OpenWebUI-User-Id is missing" in refused["message"]


def test_letters_of_all_scripts_are_taken_encoded_or_not(server: Server) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="user")

    for name in ("%E6%9D%8E %C3%A9%F0%9F%A6%8A", "李 é🦊".encode()):
        caller = who(server, token, [(b"X-OpenWebUI-User-Id", b"1"), (b"X-OpenWebUI-User-Name", name)])
        assert caller["name"] == "李 é🦊"


def test_what_is_made_of_a_name_and_an_address_fits_too() -> None:
    with pytest.raises(Invalid):
        user_of("user", b"1", None, ("İ" * 200).encode())
    nameless = user_of("user", b"1", b" ", b"a" * 300 + b"@example.org")
    assert len(nameless.name) == 255 and len(nameless.email) == 312


def test_the_lesser_role_is_never_more_than_either() -> None:
    order = {"pending": 0, "user": 1, "admin": 2}
    for role in ("admin", "user", "pending", "", "ADMIN", "administrator", "admin\x00"):
        for ceiling in get_args(Ceiling):
            got = lesser(role, ceiling)
            assert order[got] <= order[ceiling]
            assert order[got] <= order.get(role.strip().lower(), 1)
    assert user_of("user", b"1", b"A", b"a@b", b"admin") == User("1", "A", "a@b", "user")


# ---- what is kept of those named -------------------------------------------------------------------------


def known(server: Server, id: str) -> User | None:
    with server.state() as state:
        return state.user(id)


def test_who_is_named_is_listed_soon_and_follows_the_chat_server(server: Server) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="user")
    first, renamed = named(id="remembered"), named(id="remembered", name="Zoe", email="zoe@example.com")

    who(server, token, first)
    zoe = User("remembered", "Zoë Ünal", "zoe@example.org", "user")
    wait_for("the user", lambda: known(server, "remembered") == zoe)
    who(server, token, renamed)
    wait_for(
        "the new name", lambda: known(server, "remembered") == User("remembered", "Zoe", "zoe@example.com", "user")
    )


def test_who_was_removed_is_remembered_again_when_they_call(server: Server, client: httpx.Client) -> None:
    token = server.add_token("user", "chat@example.org", ceiling="user")
    headers = named(id="comes-back")
    who(server, token, headers)
    wait_for("the user", lambda: known(server, "comes-back"))

    assert client.delete("/api/users/comes-back").status_code == 200
    assert known(server, "comes-back") is None
    assert who(server, token, headers)["id"] == "comes-back"
    wait_for("the user again", lambda: known(server, "comes-back"))


def test_what_is_named_last_before_a_stop_is_kept(project: Project, start_server: Callable[..., Server]) -> None:
    server = start_server(project)
    token = server.add_token("user", ceiling="user")
    server.add("who", WHO)
    who(server, token, ZOE)
    assert server.stop() == 0

    assert known(server, "7f3c") is not None


def test_named_users_have_a_rate_limit_each(project: Project, start_server: Callable[..., Server]) -> None:
    project.configure("rate_limits: {user: 1/minute}")
    server = start_server(project)
    token = server.add_token("user", ceiling="user")

    assert who(server, token, named(id="a"))["id"] == "a"
    assert who(server, token, named(id="b"))["id"] == "b"
    assert who(server, token, named(id="a"))["status"] == 429


def test_naming_users_can_be_switched_off(project: Project, start_server: Callable[..., Server]) -> None:
    project.configure("auth: {forwarded_user_headers: false}")
    server = start_server(project)
    token = server.add_token("user", "chat@example.org", ceiling="admin")

    for headers in (named(role="admin"), named(name="%00"), {"X-OpenWebUI-User-Jwt": "x"}):
        caller = who(server, token, headers)
        assert (caller["email"], caller["role"]) == ("chat@example.org", "user")
