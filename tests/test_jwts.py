"""The signed tokens of a chat server: what it signed is believed up to the ceiling, and nothing else is."""

from __future__ import annotations

import base64
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from fnsync.api.jwts import ChatTokens
from fnsync.cli import exits
from fnsync.config import JwtConfig
from fnsync.errors import ConfigError, Unauthorized
from fnsync.model import Ceiling
from fnsync.store.state import ADMIN
from tests.commands import run_program
from tests.conftest import Project, Server, wait_for
from tests.test_forwarded import ZOE, known, named, status, who

SECRET = "the chat server's secret, long enough"
FORWARDED_SECRET = "what it signs its headers with, also long enough"
SECRETS = {"WEBUI_SECRET_KEY": SECRET, "FORWARD_USER_INFO_HEADER_JWT_SECRET": FORWARDED_SECRET}
PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----"""


def configured(ceiling: Ceiling) -> str:
    return f"""
        auth:
          jwt:
            secret: {{env: WEBUI_SECRET_KEY}}
            forwarded_secret: {{env: FORWARD_USER_INFO_HEADER_JWT_SECRET}}
            ceiling: {ceiling}
        """


@pytest.fixture(scope="module")
def users_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose chat server's tokens give no more than a user's role."""
    yield from running(tmp_path_factory, "user")


@pytest.fixture(scope="module")
def admins_too(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose chat server's tokens may be admins'."""
    yield from running(tmp_path_factory, "admin")


def running(tmp_path_factory: pytest.TempPathFactory, ceiling: Ceiling) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("jwt") / "project")
    project.configure(configured(ceiling))
    server = Server(project, environ=SECRETS)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def login(secret: str = SECRET, **claims: Any) -> str:
    """A login token, as Open WebUI makes it."""
    now = int(time.time())
    said = {"id": "7f3c", "typ": "session", "exp": now + 3600, "jti": "9c1f", "iat": now} | claims
    return jwt.encode({key: value for key, value in said.items() if value is not None}, secret, "HS256")


def signed(secret: str = FORWARDED_SECRET, **claims: Any) -> dict[str, str]:
    """The header that Open WebUI sends in place of four."""
    now = int(time.time())
    said = {
        **{"sub": "7f3c", "email": "Zoe@example.org", "name": "Zoë Ünal", "role": "user"},
        **{"iss": "open-webui", "iat": now, "exp": now + 300},
    } | claims
    token = jwt.encode({key: value for key, value in said.items() if value is not None}, secret, "HS256")
    return {"X-OpenWebUI-User-Jwt": token}


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: Any, payload: Any, secret: str = SECRET, hash: str = "sha256") -> str:
    """A token whose header says anything, with the signature of HS256 or another of its kind."""
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{part(hmac.digest(secret.encode(), text.encode(), hash))}"


# ---- login tokens ----------------------------------------------------------------------------------------


def test_who_logged_in_at_the_chat_server_is_a_user(users_only: Server) -> None:
    assert who(users_only, login(id="new")) == {"id": "new", "name": "new", "email": "", "role": "user"}
    assert who(users_only, login(id="new", exp=None, jti=None, iat=None))["id"] == "new", (
        "the chat server may be set so"
    )
    assert status(users_only, login(id="new", role="admin")) == 401, "what it says of its role counts for nothing"
    with users_only.client() as client:
        headers = {"Cookie": f"token={login()}", "Authorization": ""}
        assert client.get("/v1/models", headers=headers).status_code == 200


def test_who_is_known_has_their_name_and_the_lesser_of_role_and_ceiling(users_only: Server, admins_too: Server) -> None:
    for server, role in ((users_only, "user"), (admins_too, "admin")):
        token = server.add_token("user", "chat@example.org", ceiling="admin")
        assert who(server, token, named(id="boss", role="admin"))["role"] == "admin"
        wait_for("the user", lambda server=server: known(server, "boss"))  # type: ignore[misc]

        assert who(server, login(id="boss")) == {
            **{"id": "boss", "name": "Zoë Ünal", "email": "zoe@example.org", "role": role}
        }
        assert status(server, login(id="boss")) == (200 if role == "admin" else 401)


def test_a_role_that_a_service_token_could_not_give_does_not_come_by_a_login(admins_too: Server) -> None:
    token = admins_too.add_token("user", "chat@example.org", ceiling="user")
    who(admins_too, token, named(id="climber", role="admin"))
    wait_for("the user", lambda: known(admins_too, "climber"))

    assert who(admins_too, login(id="climber"))["role"] == "user"


def test_who_is_pending_at_the_chat_server_is_refused(admins_too: Server) -> None:
    token = admins_too.add_token("user", "chat@example.org", ceiling="admin")
    assert who(admins_too, login(id="waiting"))["role"] == "user"
    assert who(admins_too, token, named(id="waiting", role="pending"))["status"] == 401

    assert who(admins_too, login(id="waiting"))["status"] == 401


def test_the_id_of_a_local_user_is_refused(admins_too: Server) -> None:
    service = admins_too.add_token("user", "chat@example.org", ceiling="admin")
    boss = who(admins_too, admins_too.add_token("admin", "boss@example.org"))
    assert boss["email"] == "boss@example.org"

    for id in (boss["id"], ADMIN.id):
        for token, headers in ((login(id=id), {}), (service, signed(sub=id, role="admin"))):
            refused = who(admins_too, token, headers)
            assert (refused["status"], refused["code"]) == (401, "unauthorized")
            assert repr(id) in refused["message"] and "added here" in refused["message"]
            assert status(admins_too, token, headers) == 401


def test_the_first_login_after_a_start_is_compared_with_local_users(
    project: Project, start_server: Callable[..., Server]
) -> None:
    project.configure(configured("admin"))
    server = start_server(project, environ=SECRETS)

    with server.client(login(id=ADMIN.id)) as client:
        assert client.get("/v1/models").status_code == 401


NOW = int(time.time())
PAYLOAD = {"id": "7f3c", "exp": NOW + 10_000, "iat": NOW}
WRONG = {
    "another secret": login("somebody else's secret, long enough"),
    "the header's secret": login(FORWARDED_SECRET),
    "expired": login(exp=NOW - 60),
    "not valid yet": login(nbf=NOW + 3600),
    "made in the future": login(iat=NOW + 3600),
    "HS512": by_hand({"alg": "HS512", "typ": "JWT"}, PAYLOAD, hash="sha512"),
    "none": f"{part({'alg': 'none'})}.{part(PAYLOAD)}.",
    "None": f"{part({'alg': 'None'})}.{part(PAYLOAD)}.",
    "none, signed": by_hand({"alg": "none", "typ": "JWT"}, PAYLOAD),
    "RS256, signed as HS256": by_hand({"alg": "RS256", "typ": "JWT"}, PAYLOAD),
    "a key of its own": by_hand(
        {"alg": "HS256", "jwk": {"kty": "oct", "k": part(b"mine")}, "kid": "x"}, PAYLOAD, "mine"
    ),
    "no algorithm": by_hand({"typ": "JWT"}, PAYLOAD),
    "unsigned": login().rpartition(".")[0] + ".",
    "another signature": login().rpartition(".")[0] + "." + login(id="other").rpartition(".")[2],
    "another payload": f"{login().split('.')[0]}.{part(PAYLOAD | {'id': 'admin'})}.{login().split('.')[2]}",
    "for another use": login(typ="mfa_challenge"),
    "a use that is a list": login(typ=["session"]),
    "no id": login(id=None, sub="7f3c"),
    "an empty id": login(id=" "),
    "an id that is a number": login(id=7),
    "an id of two lines": login(id="7f3c\nX-Role: admin"),
    "an id of 65 characters": login(id="a" * 65),
    "for somebody else": login(aud="another service"),
    "a time that is no number": login(exp="tomorrow"),
    "no object": by_hand({"alg": "HS256"}, ["id"]),
    "no JSON": by_hand({"alg": "HS256"}, b"\xff{"),
    "a header without end": by_hand(b'{"alg":"HS256","x":' + b"[" * 500, {}),
    "no base64": "a.b.c",
    "nothing": "..",
}


@pytest.mark.parametrize("case", WRONG)
def test_what_the_chat_server_did_not_sign_gets_nobody_in(admins_too: Server, case: str) -> None:
    refused = who(admins_too, WRONG[case])

    assert (refused["status"], refused["code"]) == (401, "unauthorized")
    assert WRONG[case] not in admins_too.log()


def test_clocks_may_be_a_little_apart(users_only: Server) -> None:
    now = int(time.time())
    assert who(users_only, login(exp=now - 10))["id"] == "7f3c"
    assert who(users_only, login(iat=now + 10, nbf=now + 10))["id"] == "7f3c"


def test_a_guessed_token_counts_as_a_failed_login(project: Project, start_server: Callable[..., Server]) -> None:
    project.configure(configured("user"))
    server = start_server(project, environ=SECRETS | {"FNSYNC_RATE_LIMITS__LOGINS": "2/hour"})
    good = login()
    assert who(server, good)["id"] == "7f3c"

    for expected in (401, 401, 429):
        assert who(server, login("guessed, and long enough for this", id="x"))["status"] == expected
    assert who(server, good)["id"] == "7f3c"
    assert who(server, login(id="other"))["status"] == 429


# ---- the signed header -----------------------------------------------------------------------------------


def test_a_signed_header_names_the_user_and_takes_the_place_of_the_four(users_only: Server) -> None:
    token = users_only.add_token("user", "chat@example.org", ceiling="user")

    for headers in (signed(), named(id="other", role="admin") | signed()):
        assert who(users_only, token, headers) == {
            **{"id": "7f3c", "name": "Zoë Ünal", "email": "zoe@example.org", "role": "user"}
        }
    wait_for("the user", lambda: known(users_only, "7f3c"))
    assert who(users_only, token, ZOE)["id"] == "7f3c", "the four are taken without it"


@pytest.mark.parametrize(
    ("of_token", "of_jwt", "claimed", "role"),
    [
        ("admin", "admin", "admin", "admin"),
        ("admin", "admin", "user", "user"),
        ("admin", "admin", "root", "user"),
        ("admin", "admin", None, "user"),
        ("admin", "user", "admin", "user"),
        ("user", "admin", "admin", "user"),
        ("user", "user", "admin", "user"),
    ],
)
def test_a_signed_header_gives_the_least_of_role_and_both_ceilings(
    users_only: Server, admins_too: Server, of_token: Ceiling, of_jwt: Ceiling, claimed: str | None, role: str
) -> None:
    server = admins_too if of_jwt == "admin" else users_only
    token = server.add_token("user", "chat@example.org", ceiling=of_token)

    assert who(server, token, signed(role=claimed))["role"] == role
    assert status(server, token, signed(role=claimed)) == (200 if role == "admin" else 401)


def test_a_signed_header_counts_beside_a_service_token_only(admins_too: Server) -> None:
    plain = admins_too.add_token("user", "plain@example.org")

    assert who(admins_too, plain, signed(role="admin"))["email"] == "plain@example.org"
    assert who(admins_too, login(id="me"), signed(role="admin"))["id"] == "me"
    assert who(admins_too, "wrong", signed(role="admin"))["status"] == 401
    header_as_login = signed(secret=SECRET, role="admin")["X-OpenWebUI-User-Jwt"]
    assert who(admins_too, header_as_login)["status"] == 401


WRONG_HEADERS = {
    "another secret": signed("somebody else's secret, long enough"),
    "the logins' secret": signed(SECRET),
    "a login token": {"X-OpenWebUI-User-Jwt": login(FORWARDED_SECRET)},
    "expired": signed(exp=NOW - 60),
    "without an end": signed(exp=None),
    "without a beginning": signed(iat=None),
    "another issuer": signed(iss="somebody"),
    "no issuer": signed(iss=None),
    "no id": signed(sub=None),
    "an empty id": signed(sub=" "),
    "a name of two lines": signed(name="Zoe\nX-Role: admin"),
    "a name that is a list": signed(name=["Zoe"]),
    "a name of 10 KB": signed(name="a" * 10_240),
    "pending": signed(role="pending"),
    "a header without end": {"X-OpenWebUI-User-Jwt": by_hand(b'{"alg":"HS256","x":' + b"[" * 5000, {})},
    "an empty one": {"X-OpenWebUI-User-Jwt": ""},
}


@pytest.mark.parametrize("case", WRONG_HEADERS)
def test_a_header_that_the_chat_server_did_not_sign_names_nobody(admins_too: Server, case: str) -> None:
    token = admins_too.add_token("user", "chat@example.org", ceiling="admin")

    refused = who(admins_too, token, WRONG_HEADERS[case])
    assert (refused["status"], refused["code"]) == (401, "unauthorized")
    assert who(admins_too, token, ZOE | WRONG_HEADERS[case])["status"] == 401, "the four do not stand in for it"


def test_functions_do_not_see_the_signed_header(users_only: Server) -> None:
    source = """
        class Pipe:
            def pipe(self, body, __request__):
                return " ".join(sorted(__request__.headers))
    """
    users_only.add("headers", source)
    token = users_only.add_token("user", "chat@example.org", ceiling="user")
    with users_only.client(token) as client:
        body = {"model": "headers", "messages": [{"role": "user", "content": "?"}]}
        answer = client.post("/v1/chat/completions", json=body, headers=signed())
    seen = answer.json()["choices"][0]["message"]["content"].split()
    assert "user-agent" in seen and "x-openwebui-user-jwt" not in seen


# ---- configuration ---------------------------------------------------------------------------------------


def test_without_configuration_no_signed_token_is_taken(server: Server) -> None:
    assert who(server, login())["status"] == 401
    token = server.add_token("user", "chat@example.org", ceiling="user")
    refused = who(server, token, signed())
    assert refused["status"] == 401 and "cannot be checked" in refused["message"], "and not taken for its owner"
    assert refused["hint"] == "name the secret it is signed with: auth.jwt.secret"


def test_one_secret_may_do_for_both() -> None:
    tokens = ChatTokens(JwtConfig.model_validate({"secret": {"env": "A"}}), {"A": SECRET})
    assert tokens.login(login().encode()) == "7f3c"
    assert tokens.forwarded(signed(SECRET)["X-OpenWebUI-User-Jwt"].encode(), "admin").id == "7f3c"
    with pytest.raises(Unauthorized):
        tokens.forwarded(signed()["X-OpenWebUI-User-Jwt"].encode(), "admin")


@pytest.mark.parametrize(
    ("secret", "said"), [("", "A is not set"), ("t0p-s3cr3t", "shorter than 16 bytes"), (PUBLIC_KEY, "no secret")]
)
def test_a_secret_that_protects_nothing_stops_the_start(project: Project, secret: str, said: str) -> None:
    config = {"secret": {"env": "A"}}
    with pytest.raises(ConfigError, match=said) as caught:
        ChatTokens(JwtConfig.model_validate(config), {"A": secret})
    assert secret == "" or secret not in str(caught.value)

    project.configure("auth: {jwt: {secret: {env: A}}}")
    told = run_program(project.root, "serve", A=secret)
    assert told.returncode == exits.USAGE and said in told.stderr
    assert not (project.root / ".fnsync/server.json").exists()


def test_a_server_that_is_not_configured_for_it_does_not_load_the_library() -> None:
    code = "import sys, fnsync.launch; print('jwt' in sys.modules, 'sqlalchemy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["False", "False"]


def test_a_secret_of_the_chat_servers_own_making_is_no_reason_to_warn() -> None:
    sixteen = "bDNqGgJpVn8hKx0k"
    tokens = ChatTokens(JwtConfig.model_validate({"secret": {"env": "A"}}), {"A": sixteen})
    now = int(time.time())
    assert tokens.login(by_hand({"alg": "HS256"}, {"id": "7f3c", "iat": now}, sixteen).encode()) == "7f3c"
