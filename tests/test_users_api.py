"""Users and tokens over HTTP: for admins, as documented, and what they change counts at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from fnsync.api.tokens import MadeToken, TokenAnswer, TokenList
from fnsync.api.users import UserAnswer, UserList
from fnsync.model import User
from tests.conftest import Project, Server, wait_for


@pytest.fixture(params=["/api", "/api/v1"])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def address() -> str:
    return f"{uuid.uuid4().hex[:8]}@example.org"


def exactly(type: Any, answer: httpx.Response) -> Any:
    """The JSON of an answer, which has the documented shape: every key, no other, no other types."""
    assert answer.status_code == 200, answer.text
    value = answer.json()
    assert TypeAdapter(type).dump_python(TypeAdapter(type).validate_python(value, strict=True), mode="json") == value
    return value


def add(client: httpx.Client, prefix: str = "/api", **fields: Any) -> dict[str, Any]:
    return dict(exactly(UserAnswer, client.post(f"{prefix}/users", json={"email": address()} | fields)))


def reaches(server: Server, token: str, path: str = "/v1/models") -> int:
    return httpx.get(f"{server.url}{path}", headers={"Authorization": f"Bearer {token}"}).status_code


ROUTES = [
    ("GET", "/users"),
    ("POST", "/users"),
    ("GET", "/users/x"),
    ("PUT", "/users/x"),
    ("DELETE", "/users/x"),
    ("GET", "/users/x/tokens"),
    ("POST", "/users/x/tokens"),
    ("GET", "/tokens"),
    ("DELETE", "/tokens/x"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_all_of_it_is_for_admins(
    server: Server, client: httpx.Client, user_client: httpx.Client, prefix: str, method: str, path: str
) -> None:
    assert httpx.request(method, f"{server.url}{prefix}{path}").status_code == 401
    refused = user_client.request(method, f"{prefix}{path}", content=b"{")
    assert (refused.status_code, refused.json()["detail"]) == (401, "this needs an admin's token")
    assert client.request(method, f"{prefix}{path}", json={}).status_code in (200, 400, 404)


# ---- users -----------------------------------------------------------------------------------------------


def test_a_user_is_added_read_changed_and_removed(client: httpx.Client, prefix: str) -> None:
    email = address()
    added = add(client, prefix, email=email.upper(), name="Ada L.", role="pending")
    assert (added["email"], added["name"], added["role"], added["origin"]) == (email, "Ada L.", "pending", "local")
    at = f"{prefix}/users/{added['id']}"
    assert exactly(UserAnswer, client.get(at)) == added
    assert added in exactly(UserList, client.get(f"{prefix}/users"))["users"]

    changed = exactly(UserAnswer, client.put(at, json={"role": "user", "name": "Ada"}))
    assert changed == added | {"role": "user", "name": "Ada"} == client.get(at).json()
    assert exactly(UserAnswer, client.put(at, json={"name": None})) == changed

    assert exactly(bool, client.delete(at)) is True
    gone = client.get(at)
    assert (gone.status_code, gone.json()["detail"]) == (404, f"there is no user {added['id']!r}")


def test_a_name_may_be_left_out(client: httpx.Client) -> None:
    added = add(client)
    assert added["name"] == added["email"].partition("@")[0]
    assert added["role"] == "user"


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({}, "email"),
        ({"email": ""}, "email"),
        ({"email": "ada"}, "no e-mail address"),
        ({"email": "ada@example.org", "role": "root"}, "role"),
        ({"email": "ada@example.org", "name": "a" * 256}, "name"),
        ({"email": "ada@example.org", "name": "a\nb"}, "name"),
        ({"email": 7}, "email"),
        ([], "the body"),
    ],
)
def test_a_form_that_is_wrong_is_refused_with_the_reason(client: httpx.Client, form: Any, param: str) -> None:
    answer = client.post("/api/users", json=form)
    assert answer.status_code == 400 and param in answer.json()["detail"]


def test_an_address_that_is_taken_is_a_conflict(client: httpx.Client) -> None:
    ada, grace = add(client), add(client)
    taken = client.post("/api/users", json={"email": ada["email"].title()})
    assert taken.status_code == 409 and ada["email"] in taken.json()["detail"]
    assert client.put(f"/api/users/{grace['id']}", json={"email": ada["email"]}).status_code == 409
    assert client.get(f"/api/users/{grace['id']}").json() == grace


def test_who_is_unknown_is_not_found(client: httpx.Client) -> None:
    for method, path in ROUTES:
        if "/x" in path:
            assert client.request(method, f"/api{path}", json={}).status_code == 404, (method, path)


def test_another_role_counts_at_once(server: Server, client: httpx.Client) -> None:
    user = add(client)
    token = client.post(f"/api/users/{user['id']}/tokens", json={}).json()["token"]
    for role, models, status in [
        ("user", 200, 401),
        ("admin", 200, 200),
        ("pending", 401, 401),
        ("user", 200, 401),
    ]:
        assert client.put(f"/api/users/{user['id']}", json={"role": role}).status_code == 200
        assert reaches(server, token) == models
        assert reaches(server, token, "/api/status") == status


def test_who_is_removed_is_out_at_once_and_so_are_their_valves(server: Server, client: httpx.Client) -> None:
    user = add(client)
    tokens = [client.post(f"/api/users/{user['id']}/tokens", json={}).json() for _ in range(2)]
    with server.state() as state:
        state.set_user_valves(user["id"], "translate", "secret")
        state.set_user_valves("somebody else", "translate", "secret")
    assert [reaches(server, token["token"]) for token in tokens] == [200, 200]

    assert client.delete(f"/api/users/{user['id']}").status_code == 200
    assert [reaches(server, token["token"]) for token in tokens] == [401, 401]
    assert not {token["id"] for token in tokens} & {token["id"] for token in client.get("/api/tokens").json()["tokens"]}
    with server.state() as state:
        assert state.user_valves(user["id"], "translate") is None
        assert state.user_valves("somebody else", "translate") == "secret"


def test_admins_do_not_remove_or_demote_themselves(server: Server, client: httpx.Client) -> None:
    boss = add(client, role="admin")
    token = client.post(f"/api/users/{boss['id']}/tokens", json={}).json()["token"]
    at = f"/api/users/{boss['id']}"
    with server.client(token) as self:
        for role in ("user", "pending"):
            refused = self.put(at, json={"role": role})
            assert refused.status_code == 409 and "your own account" in refused.json()["detail"]
        refused = self.delete(at)
        assert refused.status_code == 409 and "your own account" in refused.json()["detail"]
        assert self.put(at, json={"name": "Boss", "role": "admin"}).status_code == 200
    assert client.put(at, json={"role": "user"}).status_code == 200, "another admin can"
    assert client.delete(at).status_code == 200


def test_the_built_in_admin_stays(server: Server, client: httpx.Client) -> None:
    boss = add(client, role="admin")
    token = client.post(f"/api/users/{boss['id']}/tokens", json={}).json()["token"]
    with server.client(token) as other:
        assert other.delete("/api/users/admin").status_code == 409
        assert other.put("/api/users/admin", json={"role": "user"}).status_code == 409
        assert other.put("/api/users/admin", json={"name": "Root"}).status_code == 409
        assert other.get("/api/users/admin").json()["role"] == "admin"


def test_a_user_of_a_chat_server_is_listed_and_changed_there_only(server: Server, client: httpx.Client) -> None:
    id = uuid.uuid4().hex
    with server.state() as state:
        state.remember(User(id, "Zoë", "zoe@example.org", "user"))
    listed = {user["id"]: user for user in exactly(UserList, client.get("/api/users"))["users"]}
    assert (listed[id]["name"], listed[id]["origin"]) == ("Zoë", "forwarded")

    assert client.put(f"/api/users/{id}", json={"role": "admin"}).status_code == 409
    assert client.post(f"/api/users/{id}/tokens", json={}).status_code == 409
    assert client.delete(f"/api/users/{id}").status_code == 200


# ---- tokens ----------------------------------------------------------------------------------------------


def test_a_tokens_text_is_answered_once(server: Server, client: httpx.Client, prefix: str) -> None:
    user = add(client)
    at = f"{prefix}/users/{user['id']}/tokens"
    made = exactly(MadeToken, client.post(at, json={"label": "laptop"}))
    text = made.pop("token")
    assert text.startswith(f"fns_{made['id']}_") and (made["label"], made["ceiling"]) == ("laptop", None)
    assert reaches(server, text) == 200

    listed = client.get(at)
    assert [token | {"last_used_at": None} for token in exactly(TokenList, listed)["tokens"]] == [made]
    everything = client.get(f"{prefix}/tokens")
    assert made["id"] in [token["id"] for token in exactly(TokenList, everything)["tokens"]]
    assert text not in listed.text + everything.text and "digest" not in everything.text
    assert text not in server.log()
    assert set(TokenAnswer.model_fields) == set(made)


def test_a_revoked_token_is_out_at_once(server: Server, client: httpx.Client, prefix: str) -> None:
    user = add(client)
    made = client.post(f"/api/users/{user['id']}/tokens", json={}).json()
    assert reaches(server, made["token"]) == 200

    assert exactly(bool, client.delete(f"{prefix}/tokens/{made['id']}")) is True
    assert reaches(server, made["token"]) == 401
    gone = client.delete(f"{prefix}/tokens/{made['id']}")
    assert gone.status_code == 404 and made["id"] in gone.json()["detail"]


def test_a_service_token_is_made_with_its_ceiling(server: Server, client: httpx.Client) -> None:
    user = add(client)
    made = exactly(MadeToken, client.post(f"/api/users/{user['id']}/tokens", json={"ceiling": "admin"}))
    assert made["ceiling"] == "admin"
    with server.client(made["token"]) as chat:
        headers = {"X-OpenWebUI-User-Id": "boss", "X-OpenWebUI-User-Role": "admin"}
        assert chat.get("/api/status", headers=headers).status_code == 200

    assert client.post(f"/api/users/{user['id']}/tokens", json={"ceiling": "pending"}).status_code == 400


def test_the_last_use_of_a_token_is_shown(project: Project, start_server: Callable[..., Server]) -> None:
    server = start_server(project)
    token = server.add_token("user")
    with server.client() as client:
        assert client.get("/api/tokens").json()["tokens"][0]["last_used_at"] is None
        assert reaches(server, token) == 200
        wait_for("the use", lambda: client.get("/api/tokens").json()["tokens"][0]["last_used_at"])


def test_who_changed_what_is_in_the_log(server: Server, client: httpx.Client) -> None:
    user = add(client)
    client.put(f"/api/users/{user['id']}", json={"role": "admin"})
    made = client.post(f"/api/users/{user['id']}/tokens", json={}).json()
    client.delete(f"/api/tokens/{made['id']}")
    client.delete(f"/api/users/{user['id']}")
    log = server.log()
    for event in ("user_added", "user_changed", "token_made", "token_revoked", "user_removed"):
        assert f'"event": "{event}"' in log
    assert made["token"] not in log
