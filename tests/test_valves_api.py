"""Valves over HTTP: what is stored in which form, whose values a call gets, and that no secret is anywhere in clear."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fnsync.vault import FILE, Vault, new_key
from tests.anew import begin_anew
from tests.conftest import Project, Server, wait_for

API = "/api/v1/functions"
CHAT = "/v1/chat/completions"

TUNED = """
import json
from pydantic import BaseModel, Field, SecretStr, field_validator


class Inner(BaseModel):
    host: str = "h"
    password: str = ""


class Pipe:
    class Valves(BaseModel):
        retries: int = Field(default=2, ge=0, le=5)
        api_key: str = ""
        hidden: SecretStr = SecretStr("")
        shown: str = Field(default="", json_schema_extra={"input": {"type": "password"}})
        inner: Inner = Inner()
        max_tokens: int = 5
        extra: dict = {}
        items: list = []
        mode: str = Field(default="a", json_schema_extra={"input": {"options": "modes"}})

        @classmethod
        def modes(cls, __user__):
            return ["a", __user__["name"]]

    class UserValves(BaseModel):
        tone: str = "plain"
        token: str = ""
        repeated: str = ""

        @field_validator("repeated")
        @classmethod
        def repeat(cls, value):
            return value if len(value) > 1000 else value * 1000

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body, __user__):
        values = self.valves.model_dump(mode="python")
        values["hidden"] = self.valves.hidden.get_secret_value()
        return json.dumps({**values, "user": __user__["valves"].model_dump(exclude={"repeated"})})
"""
SECRETS = ("s3cret-key-1", "s3cret-hidden-2", "s3cret-shown-3", "s3cret-inner-4", "s3cret-user-5")


def valves(client: httpx.Client, id: str) -> dict[str, Any]:
    return dict(client.get(f"{API}/id/{id}/valves").json())


def set_valves(client: httpx.Client, id: str, values: Any, **more: Any) -> httpx.Response:
    return client.post(f"{API}/id/{id}/valves/update", json=values, **more)


def seen(client: httpx.Client, id: str) -> dict[str, Any]:
    """What the function itself sees."""
    answer = client.post(CHAT, json={"model": id, "messages": [{"role": "user", "content": "?"}]})
    assert answer.status_code == 200, answer.text
    return dict(json.loads(answer.json()["choices"][0]["message"]["content"]))


ENVIRON = {"DEEPL": "from-the-environment"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(Project(tmp_path_factory.mktemp("valves") / "project"), environ=ENVIRON)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture
def tuned(running: Server, watched: Callable[[Server], Server]) -> Server:
    """A server on a project with the function `tuned`, for which nobody has set values yet."""
    begin_anew(running, {"tuned.py": TUNED})
    with running.client() as client:
        assert client.post(f"{API}/id/tuned/valves/user/update", json={}).status_code == 200
    with running.state() as state:
        for row in state.all_user_valves():
            state.set_user_valves(row.user_id, row.function, None)
    return watched(running)


@pytest.fixture
def alone(project: Project, start_server: Callable[..., Server]) -> Server:
    """The same on a server of the test's own, which it may stop."""
    project.write("tuned.py", TUNED)
    project.commit("first")
    return start_server(project, environ=ENVIRON)


@pytest.fixture
def client(tuned: Server) -> Iterator[httpx.Client]:
    with tuned.client() as client:
        yield client


def everything_on_disk(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every file, what SQLite and git hold in other forms included."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield str(path), path.read_bytes()
    objects = subprocess.run(
        ["git", "cat-file", "--batch-all-objects", "--batch"], cwd=root, capture_output=True, check=True
    )
    yield "git", objects.stdout


# ---- secrets ---------------------------------------------------------------------------------------------


def test_no_secret_is_anywhere_in_clear(alone: Server) -> None:
    with alone.client() as client:
        values = {
            "api_key": SECRETS[0],
            "hidden": SECRETS[1],
            "shown": SECRETS[2],
            "inner": {"password": SECRETS[3]},
            "retries": 4,
            "max_tokens": 7,
        }
        assert set_valves(client, "tuned", values).json() == {**values, "inner": {"password": SECRETS[3]}}
        own = client.post(f"{API}/id/tuned/valves/user/update", json={"token": SECRETS[4], "tone": "warm"})
        assert own.status_code == 200
        refused = set_valves(client, "tuned", {"retries": 99, "api_key": "s3cret-refused-6"})
        assert refused.status_code == 400 and "s3cret" not in refused.text
        assert seen(client, "tuned")["user"] == {"tone": "warm", "token": SECRETS[4]}
        client.get(f"{API}/export", params={"include_valves": True})
    assert alone.stop() == 0

    for name, data in everything_on_disk(alone.project.root):
        for secret in (*SECRETS, "s3cret-refused-6"):
            assert secret.encode() not in data, f"{secret} is in clear in {name}"
    stored = yaml.safe_load((alone.project.functions / "tuned.yaml").read_text())["valves"]
    assert {name for name, value in stored.items() if isinstance(value, dict) and "secret" in value} == {
        "api_key",
        "hidden",
        "shown",
        "inner",
    }
    assert (stored["retries"], stored["max_tokens"]) == (4, 7)
    key = alone.data / FILE
    assert key.stat().st_mode & 0o777 == 0o600
    assert FILE not in alone.project.git("ls-files")


def test_secrets_reach_the_function_and_survive_a_restart(alone: Server, start_server: Callable[..., Server]) -> None:
    with alone.client() as client:
        set_valves(client, "tuned", {"api_key": SECRETS[0], "inner": {"password": SECRETS[3]}})
        assert seen(client, "tuned")["api_key"] == SECRETS[0]
    alone.stop()

    with start_server(alone.project).client() as again:
        assert seen(again, "tuned")["inner"] == {"host": "h", "password": SECRETS[3]}
        assert valves(again, "tuned") == {"api_key": SECRETS[0], "inner": {"password": SECRETS[3]}}


def test_what_does_not_change_keeps_its_encrypted_form(tuned: Server, client: httpx.Client) -> None:
    set_valves(client, "tuned", {"api_key": SECRETS[0], "retries": 1})
    before = yaml.safe_load((tuned.project.functions / "tuned.yaml").read_text())["valves"]["api_key"]

    answer = set_valves(client, "tuned", {"api_key": SECRETS[0], "retries": 2})

    after = yaml.safe_load((tuned.project.functions / "tuned.yaml").read_text())["valves"]
    assert answer.status_code == 200 and after == {"api_key": before, "retries": 2}
    assert "x-fnsync-commit" not in set_valves(client, "tuned", {"api_key": SECRETS[0], "retries": 2}).headers


def test_a_secret_that_was_written_by_hand_is_encrypted_by_the_next_edit(tuned: Server, client: httpx.Client) -> None:
    tuned.project.write("tuned.yaml", "# by hand\nvalves:\n  api_key: s3cret-by-hand   # oops\n  retries: 1\n")
    tuned.project.commit("by hand")
    wait_for("the values", lambda: valves(client, "tuned") == {"api_key": "s3cret-by-hand", "retries": 1})

    set_valves(client, "tuned", {"api_key": "s3cret-by-hand", "retries": 2})

    text = (tuned.project.functions / "tuned.yaml").read_text()
    assert "s3cret-by-hand" not in text and text.startswith("# by hand\n")
    assert seen(client, "tuned")["api_key"] == "s3cret-by-hand"


def test_another_key_is_told_in_the_status_with_the_field(alone: Server, start_server: Callable[..., Server]) -> None:
    with alone.client() as client:
        set_valves(client, "tuned", {"api_key": SECRETS[0]})
    alone.stop()
    (alone.data / FILE).unlink()

    other = alone.project.root / "other"
    server = start_server(
        alone.project, environ={"FNSYNC_SECRET_KEY": new_key(), "FNSYNC_DATA": str(other)}, data=other
    )

    entry = server.function("tuned")
    assert entry is not None and entry["status"] == "failed"
    assert "valves.api_key" in entry["error"]["message"] and "FNSYNC_SECRET_KEY" in entry["error"]["hint"]
    with server.client() as again:
        answer = again.get(f"{API}/id/tuned/valves")
        assert answer.status_code == 500 and "api_key" in answer.json()["detail"]
        assert set_valves(again, "tuned", {"api_key": "new"}).status_code == 200
        assert seen(again, "tuned")["api_key"] == "new"


def test_what_was_sent_encrypted_is_never_written_in_clear(tuned: Server, client: httpx.Client) -> None:
    text = Vault(tuned.data, {}).encrypt("s3cret-mode")

    assert set_valves(client, "tuned", {"mode": {"secret": text}}).json() == {"mode": "s3cret-mode"}

    assert "s3cret" not in (tuned.project.functions / "tuned.yaml").read_text()
    assert seen(client, "tuned")["mode"] == "s3cret-mode"


ALIASED = """
import json
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel


class Inner(BaseModel):
    password: str = Field(default="", alias="way")


class Generated(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    some_password: str = ""


class Base(BaseModel):  # what it declares is told by loading alone
    model_config = ConfigDict(populate_by_name=True)


def declare(name, kind, default, **more):
    global Base
    Base = type(Base)(name, (Base,), {"__annotations__": {name: kind}, name: Field(default=default, **more)})


declare("upstream", SecretStr, SecretStr(""), alias="up")


class Pipe:
    class Valves(Base):
        password: str = Field(default="", alias="login")
        hidden: SecretStr = Field(default=SecretStr(""), validation_alias=AliasChoices("first", "second"))
        token: str = Field(default="", validation_alias="taken", serialization_alias="given")
        pin: str = Field(default="", alias="number", json_schema_extra={"input": {"type": "password"}})
        apiKey: str = Field(default="", validation_alias=AliasPath("deep", "down"))
        inner: Inner = Inner()
        many: list[dict[str, Generated]] = []
        plain: str = Field(default="", alias="simple")
        token_age: int = Field(default=0, alias="age")

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body):
        values = self.valves.model_dump(mode="json")
        values["hidden"] = self.valves.hidden.get_secret_value()
        values["upstream"] = self.valves.upstream.get_secret_value()
        return json.dumps(values)
"""


#: What is posted, and the field that gets it. By their own names fields are read only where the class says so.
BY_ALIAS = [
    ({"login": "s3cret"}, "password"),
    ({"number": "s3cret"}, "pin"),
    ({"up": "s3cret"}, "upstream"),
    ({"inner": {"way": "s3cret"}}, "inner"),
    ({"many": [{"a": {"somePassword": "s3cret"}}]}, "many"),
]
BY_NAME = [
    *(({name: "s3cret"}, name) for name in ("password", "pin", "upstream", "hidden", "token", "apiKey")),
    ({"first": "s3cret"}, "hidden"),
    ({"second": "s3cret"}, "hidden"),
    ({"taken": "s3cret"}, "token"),
    ({"deep": {"down": "s3cret"}}, "apiKey"),
]


@pytest.mark.parametrize(("by_name", "cases"), [(True, BY_ALIAS + BY_NAME), (False, BY_ALIAS)])
@pytest.mark.parametrize("way", ["posted", "imported"])
def test_a_secret_of_another_name_is_encrypted(
    tuned: Server, client: httpx.Client, way: str, by_name: bool, cases: list[tuple[dict[str, Any], str]]
) -> None:
    source = ALIASED.replace("populate_by_name=True", f"populate_by_name={by_name}")
    made = {"id": "aliased", "name": "aliased", "content": source, "meta": {}, "is_active": True}
    client.post(f"{API}/import", json={"functions": [made]})
    for posted, field in cases:
        if way == "posted":
            assert set_valves(client, "aliased", posted).status_code == 200
        else:
            answer = client.post(f"{API}/import", json={"functions": [{**made, "valves": posted}], "replace": True})
            assert answer.json()["outcomes"][0]["outcome"] == "updated", answer.text

        stored = (tuned.project.functions / "aliased.yaml").read_text()
        assert "s3cret" not in stored and "secret: " in stored, posted
        assert "s3cret" in json.dumps(valves(client, "aliased")), posted
        assert "s3cret" in json.dumps(seen(client, "aliased")[field]), posted


def test_other_names_make_no_secret_of_what_is_none(tuned: Server, client: httpx.Client) -> None:
    client.post(f"{API}/create", json={"id": "aliased", "name": "aliased", "content": ALIASED, "meta": {}})

    set_valves(client, "aliased", {"simple": "a", "age": 5})

    assert yaml.safe_load((tuned.project.functions / "aliased.yaml").read_text())["valves"] == {
        "plain": "a",
        "token_age": 5,
    }


@pytest.mark.parametrize(
    "value",
    [
        {"Authorization": "Bearer s3cret"},
        {"accept": "text/html", "X-Api-Key": "s3cret"},
        {"a": [{"b": {"clientSecret": "s3cret", "c": 1}}]},
        [{"name": "x"}, {"name": "y", "dbpassword": "s3cret"}],
        {"tokens": {"bot_token": {"value": "s3cret"}}},
        {"a": {"secret": "s3cret"}},
        {"credentials": {"env": "s3cret"}},
    ],
)
def test_a_secret_inside_a_value_is_encrypted(tuned: Server, client: httpx.Client, value: Any) -> None:
    field = "extra" if isinstance(value, dict) else "items"
    assert set_valves(client, "tuned", {field: value}).json() == {field: value}
    assert valves(client, "tuned") == {field: value}
    assert seen(client, "tuned")[field] == value
    before = (tuned.project.functions / "tuned.yaml").read_text()
    assert set_valves(client, "tuned", {field: value, "retries": 3}).status_code == 200
    row = client.get(f"{API}/export", params={"include_valves": True}).json()[0]
    assert row["valves"] == {"retries": 3, field: value}
    client.post(f"{API}/import", json={"functions": [{**row, "id": "again"}]})
    assert valves(client, "again") == row["valves"]

    for name in ("tuned", "again"):
        text = (tuned.project.functions / f"{name}.yaml").read_text()
        assert "s3cret" not in text and yaml.safe_load(text)["valves"][field].keys() == {"secret"}
    after = (tuned.project.functions / "tuned.yaml").read_text()
    assert yaml.safe_load(before)["valves"][field] == yaml.safe_load(after)["valves"][field]


@pytest.mark.parametrize("value", [{"max_tokens": 5, "use_token": True, "a": {"env": "DEEPL"}}, {"a": [{"b": "c"}]}])
def test_a_value_without_secrets_stands_in_clear(tuned: Server, client: httpx.Client, value: Any) -> None:
    assert set_valves(client, "tuned", {"extra": value}).json() == {"extra": value}

    assert yaml.safe_load((tuned.project.functions / "tuned.yaml").read_text())["valves"] == {"extra": value}
    assert seen(client, "tuned")["extra"] == value


GUARDED = """
from typing import Annotated, Any, Optional, Union
from pydantic import AliasPath, BaseModel, ConfigDict, Field, RootModel, Secret, SecretStr
from typing_extensions import TypeAliasType

Pair = tuple[SecretStr, str]
Pattern = dict[Annotated[str, Field(pattern="^a")], SecretStr]
Tree = TypeAliasType("Tree", "Union[str, list[Tree]]")
Alias = TypeAliasType("Alias", list[Secret[str]])


class Inner(BaseModel):
    pair: Pair | None = None
    gen: Secret[str] | None = None


class Many(RootModel[dict[str, Secret[int]]]): ...


class Pipe:
    class Valves(BaseModel):
        model_config = ConfigDict(populate_by_name=True)

        pair: Pair | None = None
        inner: Inner | None = None
        pattern: Pattern | None = None
        gen: Secret[str] | None = None
        number: Secret[int] | None = None
        many: Many | None = None
        alias: Alias | None = None
        renamed: Secret[str] | None = Field(None, alias="other")
        foo: str = Field("", validation_alias=AliasPath("config", "api_key"))
        bar: str = Field("", validation_alias=AliasPath("cfg", 0, "password"))
        smtp_pass: str = ""
        auth: str = ""
        tokens: str = ""
        bot_tokens: list[str] = []
        key_limit: str = ""
        max_tokens: int = 0
        token_limit: Optional[int] = None
        use_auth: str = ""
        cookie_name: str = Field("", json_schema_extra={"examples": [{"properties": {"api_key": 1}}]})
        tree: Tree = ""
        extra: Any = None

    def __init__(self):
        self.valves = self.Valves()

    def pipe(self, body): ...
"""


GUARDED_SECRETS: list[dict[str, Any]] = [
    {"pair": ["s3cret", "b"]},
    {"inner": {"pair": ["s3cret", "b"]}},
    {"inner": {"gen": "s3cret"}},
    {"pattern": {"ab": "s3cret"}},
    {"gen": "s3cret"},
    {"number": 777777},
    {"many": {"a": 777777}},
    {"alias": ["s3cret"]},
    {"other": "s3cret"},
    {"config": {"api_key": "s3cret"}},
    {"cfg": [{"password": "s3cret"}]},
    {"smtp_pass": "s3cret"},
    {"auth": "s3cret"},
    {"tokens": "s3cret"},
    {"bot_tokens": ["s3cret"]},
    {"key_limit": "s3cret"},
    {"extra": {"tokens": ["s3cret"]}},
]


@pytest.mark.parametrize("way", ["posted", "imported"])
def test_a_secret_is_known_by_its_type_and_by_its_name(tuned: Server, client: httpx.Client, way: str) -> None:
    for number, value in enumerate(GUARDED_SECRETS):
        made = {"id": f"guarded_{number}", "name": "guarded", "content": GUARDED, "meta": {}, "is_active": True}
        sent = {**made, "valves": value if way == "imported" else {}}
        answer = client.post(f"{API}/import", json={"functions": [sent]})
        assert answer.json()["outcomes"][0]["reason"] is None, answer.text
        if way == "posted":
            answer = set_valves(client, made["id"], value)
            assert answer.status_code == 200, answer.text

        stored = yaml.safe_load((tuned.project.functions / f"{made['id']}.yaml").read_text())["valves"]
        assert all(isinstance(one, dict) and one.keys() == {"secret"} for one in stored.values()), stored
        assert valves(client, made["id"]), "an admin sees it"


def test_what_only_looks_like_a_secret_stands_in_clear(tuned: Server, client: httpx.Client) -> None:
    client.post(f"{API}/create", json={"id": "guarded", "name": "guarded", "content": GUARDED, "meta": {}})
    plain = {
        **{"max_tokens": 5, "token_limit": 7, "use_auth": "digest", "cookie_name": "sid"},
        **{"tree": ["a", ["b"]], "extra": {"max_tokens": 5, "author": "x"}},
    }

    assert set_valves(client, "guarded", plain).json() == plain

    assert yaml.safe_load((tuned.project.functions / "guarded.yaml").read_text())["valves"] == plain


ECHOING = """
from pydantic import BaseModel, field_validator, model_validator


class Pipe:
    class Valves(BaseModel):
        api_key: str = ""
        hook: str = ""
        {}

    def pipe(self, body): ...
"""
FIELD = """@field_validator("api_key", "hook")
        @classmethod
        def echo(cls, value):
            {}
            return value
"""
ECHOES = {
    "repr": FIELD.format('raise ValueError(f"bad {value!r}")'),
    "runtime": FIELD.format('raise RuntimeError("bad " + value)'),
    "int": FIELD.format("int(value)"),
    "key": FIELD.format("raise KeyError(value)"),
    "strip": FIELD.format('raise ValueError("bad " + value.strip())'),
    "custom": FIELD.format('raise __import__("pydantic_core").PydanticCustomError("bad", "bad " + value.strip())'),
    "all": """@model_validator(mode="after")
        def echo(self):
            raise ValueError(f"bad {self!r}")
""",
    "late": """def model_post_init(self, context):
            raise KeyError(self.api_key + self.hook)
""",
}
AWKWARD = ["s3cret", "s3cret\nand more", "s3cret'\"\\x", "s3cret" + "y" * 6000, "  s3cret  "]


def test_no_validator_tells_a_secret_in_any_form(alone: Server) -> None:
    """`hook` is none by its name; it is encrypted because that was asked for."""
    with alone.client() as client:
        for field in ("api_key", "hook"):
            check_that_no_validator_tells(alone, client, f"echoing_{field}", field)
    assert alone.stop() == 0
    for name, data in everything_on_disk(alone.project.root):
        assert b"s3cret" not in data, name
    assert "s3cret" not in alone.log()


def check_that_no_validator_tells(server: Server, client: httpx.Client, id: str, field: str) -> None:
    plain = ECHOING.format("pass")
    client.post(f"{API}/create", json={"id": id, "name": "E", "content": plain, "meta": {}})
    client.post(f"{API}/id/{id}/toggle")
    row = client.get(f"{API}/id/{id}").json()
    for number, (echo, said) in enumerate(ECHOES.items()):
        echoing = ECHOING.format(said)
        for secret in AWKWARD if echo == "repr" else AWKWARD[number % 2 + 1 :: 2]:
            sealed = {field: {"secret": Vault(server.data, {}).encrypt(secret)}}
            assert set_valves(client, id, sealed).json() == {field: secret}

            told = [client.post(f"{API}/id/{id}/update", json={**row, "content": echoing})]
            assert told[0].status_code == 400 and "refuses the value" in told[0].text, echo
            server.project.write(f"{id}.py", echoing)
            assert "refuses the value" in server.settle(id, "stale")["error"]["message"]
            told += [set_valves(client, id, sealed), client.get(f"{API}/id/{id}/status")]
            assert "s3cret" not in "".join(answer.text for answer in told), echo
            server.project.write(f"{id}.py", plain)
            server.settle(id, "ready")


def test_no_serializer_tells_a_secret(client: httpx.Client) -> None:
    source = ECHOING.format(ECHOES["repr"]).replace("field_validator", "field_serializer").replace("@classmethod", "")
    source = source.replace("cls", "self")
    client.post(f"{API}/create", json={"id": "echoing", "name": "E", "content": source, "meta": {}})

    answer = set_valves(client, "echoing", {"api_key": "s3cret\n"})

    assert answer.status_code == 400 and "refuses the value" in answer.text and "s3cret" not in answer.text


# ---- references ------------------------------------------------------------------------------------------


def test_references_to_the_environment_survive_what_does_not_name_them(tuned: Server, client: httpx.Client) -> None:
    tuned.project.write("tuned.yaml", "valves:\n  # from the vault\n  api_key: {env: DEEPL}   # why\n  retries: 1\n")
    tuned.project.commit("by hand")
    reference = {"env": "DEEPL"}
    wait_for("the values", lambda: valves(client, "tuned") == {"api_key": reference, "retries": 1})

    assert set_valves(client, "tuned", {"retries": 3}).json() == {"retries": 3, "api_key": reference}
    assert set_valves(client, "tuned", {**valves(client, "tuned"), "retries": 4}).status_code == 200
    assert "  # from the vault\n  api_key: {env: DEEPL}" in (tuned.project.functions / "tuned.yaml").read_text()
    assert seen(client, "tuned")["api_key"] == "from-the-environment"

    assert set_valves(client, "tuned", {"api_key": None}).json() == {}
    assert set_valves(client, "tuned", {"api_key": reference}).json() == {"api_key": reference}
    missing = set_valves(client, "tuned", {"api_key": {"env": "NOT_THERE"}})
    assert missing.status_code == 400 and "NOT_THERE" in missing.json()["detail"]
    ours = set_valves(client, "tuned", {"api_key": {"env": "FNSYNC_ADMIN_TOKEN"}})
    assert ours.status_code == 400


@pytest.mark.parametrize("value", [{"env": 5}, {"env": ""}, {"env": None}, {"secret": 5}])
def test_a_reference_to_what_is_no_name_is_refused(client: httpx.Client, value: dict[str, Any]) -> None:
    answer = set_valves(client, "tuned", {"extra": value})

    assert answer.status_code == 400 and "extra" in answer.json()["detail"]
    assert valves(client, "tuned") == {}


# ---- what fits -------------------------------------------------------------------------------------------


def test_the_spec_has_options_for_who_asks(client: httpx.Client) -> None:
    spec = client.get(f"{API}/id/tuned/valves/spec").json()

    assert spec["properties"]["mode"]["input"] == {"options": ["a", "Admin"]}


def test_a_value_that_does_not_fit_is_named(client: httpx.Client) -> None:
    answer = set_valves(client, "tuned", {"retries": 99, "inner": {"host": 5}})

    assert answer.status_code == 400
    assert "retries: Input should be less than or equal to 5" in answer.json()["detail"]
    assert "inner.host: " in answer.json()["detail"]


def test_a_required_valve_is_set_after_the_function_was_made(tuned: Server, client: httpx.Client) -> None:
    source = """
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        api_key: str

    def pipe(self, body):
        return self.valves.api_key
"""
    made = client.post(f"{API}/create", json={"id": "needs", "name": "Needs", "content": source, "meta": {}})
    assert made.status_code == 200 and made.json()["type"] == "pipe"
    entry = tuned.function("needs")
    assert entry is not None and "api_key" in entry["error"]["message"]
    assert client.get(f"{API}/id/needs/valves/spec").json()["required"] == ["api_key"]

    assert set_valves(client, "needs", {"api_key": "k"}).status_code == 200
    assert client.post(f"{API}/id/needs/toggle").json()["is_active"] is True
    answer = client.post(CHAT, json={"model": "needs", "messages": [{"role": "user", "content": "?"}]})
    assert answer.json()["choices"][0]["message"]["content"] == "k"


def test_a_revision_that_asks_for_a_new_valve_is_stale_until_it_is_set(tuned: Server, client: httpx.Client) -> None:
    row = client.get(f"{API}/id/tuned").json()
    source = TUNED.replace("        retries: int", "        region: str\n        retries: int").replace(
        "self.valves = self.Valves()", "pass"
    )

    answer = client.post(f"{API}/id/tuned/update", json={**row, "content": source})

    assert answer.status_code == 200
    entry = tuned.function("tuned")
    assert entry is not None and entry["status"] == "stale" and "region" in entry["error"]["message"]
    assert "region" not in seen(client, "tuned")
    assert set_valves(client, "tuned", {"region": "eu"}).status_code == 200
    assert seen(client, "tuned")["region"] == "eu"
    assert tuned.function("tuned")["status"] == "ready"  # type: ignore[index]


def test_a_revision_that_takes_a_stored_value_no_more_is_refused_or_stale(tuned: Server, client: httpx.Client) -> None:
    set_valves(client, "tuned", {"retries": 4})
    row = client.get(f"{API}/id/tuned").json()
    narrower = TUNED.replace("le=5", "le=3")

    refused = client.post(f"{API}/id/tuned/update", json={**row, "content": narrower})
    assert refused.status_code == 400 and "retries" in refused.json()["detail"]

    tuned.project.write("tuned.py", narrower)
    entry = tuned.settle("tuned", "stale")
    assert "retries" in entry["error"]["message"]
    assert valves(client, "tuned") == {"retries": 4}
    assert seen(client, "tuned")["retries"] == 4


@pytest.mark.parametrize("address", ["valves", "valves/user"])
def test_more_values_than_are_stored_are_refused_with_their_size(client: httpx.Client, address: str) -> None:
    field = "mode" if address == "valves" else "tone"
    most = 256 * 1024 - len(f'{{"{field}":""}}')

    for text, size in (("x" * (most + 1), "262,145"), ("é" * most, f"{256 * 1024 + most:,}")):
        answer = client.post(f"{API}/id/tuned/{address}/update", json={field: text})
        assert answer.status_code == 400
        assert f"{size} bytes of JSON, more than the 262,144" in answer.json()["detail"]
    assert client.get(f"{API}/id/tuned/{address}").json() == {}

    most -= 2000  # a settings file says more than the values
    assert client.post(f"{API}/id/tuned/{address}/update", json={field: "x" * most}).json() == {field: "x" * most}


def test_values_that_a_class_makes_too_large_are_refused(client: httpx.Client) -> None:
    answer = client.post(f"{API}/id/tuned/valves/user/update", json={"repeated": "x" * 300})

    assert answer.status_code == 400 and "300,0" in answer.json()["detail"]
    assert client.get(f"{API}/id/tuned/valves/user").json() == {}


# ---- users' own ------------------------------------------------------------------------------------------


def test_each_user_has_values_of_their_own_in_every_call(tuned: Server) -> None:
    tokens = {name: tuned.add_token("user", f"{name}@example.org") for name in ("ada", "bob")}
    for name, token in tokens.items():
        with tuned.client(token) as mine:
            assert mine.post(f"{API}/id/tuned/valves/user/update", json={"tone": name}).status_code == 200

    for name, token in tokens.items():
        with tuned.client(token) as mine:
            assert seen(mine, "tuned")["user"]["tone"] == name
            assert mine.get(f"{API}/id/tuned/valves/user").json() == {"tone": name}
            assert mine.get(f"{API}/id/tuned/valves").status_code == 401
            mine.post(f"{API}/id/tuned/valves/user/update", json={"tone": f"{name} again"})
            assert seen(mine, "tuned")["user"]["tone"] == f"{name} again"


def test_values_are_gone_with_their_user(tuned: Server, client: httpx.Client) -> None:
    token = tuned.add_token("user", "ada@example.org")
    with tuned.client(token) as mine:
        mine.post(f"{API}/id/tuned/valves/user/update", json={"tone": "warm"})
    with tuned.state() as state:
        user = state.user_by_email("ada@example.org")
        assert user is not None and state.user_valves(user.id, "tuned") is not None

    assert client.delete(f"/api/users/{user.id}").status_code == 200

    with tuned.state() as state:
        assert state.user_valves(user.id, "tuned") is None
        assert list(state.all_user_valves()) == []


LOUD = """
from pydantic import BaseModel


class Pipe:
    class UserValves(BaseModel):
        word: str = ""

    def pipe(self, body, __user__):
        return __user__["valves"].word
"""


def test_values_do_not_reach_another_owners_function_of_the_same_id(
    project: Project, start_server: Callable[..., Server]
) -> None:
    project.configure("auth: {user_functions: true}")
    server = start_server(project)
    form = {"id": "loud", "name": "Loud", "content": LOUD, "meta": {}}
    own = f"{API}/id/loud/valves/user"

    def asked(client: httpx.Client) -> str:
        answer = client.post(CHAT, json={"model": "loud", "messages": [{"role": "user", "content": "?"}]})
        return str(answer.json()["choices"][0]["message"]["content"])

    with server.client() as admin, server.client(server.add_token("user", "bob@example.org")) as bob:
        admin.post(f"{API}/create", json=form)
        admin.post(f"{API}/id/loud/toggle")
        assert admin.post(f"{own}/update", json={"word": "s3cret"}).status_code == 200
        assert asked(admin) == "s3cret"
        settings = (project.functions / "loud.yaml").read_text()
        admin.delete(f"{API}/id/loud/delete")

        assert bob.post(f"{API}/create", json=form).status_code == 200
        bob.post(f"{API}/id/loud/toggle")
        assert (admin.get(own).json(), asked(admin)) == ({}, "")
        bob.delete(f"{API}/id/loud/delete")

        project.write("loud.py", LOUD)
        project.write("loud.yaml", settings)
        project.commit("again")
        server.settle("loud", "ready")
        assert (admin.get(own).json(), asked(admin)) == ({"word": "s3cret"}, "s3cret"), "it is what it was"

        project.write("loud.yaml", f"{settings}owner: bob\n")
        project.commit("bob's")
        wait_for("the owner", lambda: admin.get(own).json() == {})
        assert asked(admin) == ""


def test_values_follow_a_function_that_is_renamed_with_git(tuned: Server, client: httpx.Client) -> None:
    client.post(f"{API}/id/tuned/valves/user/update", json={"tone": "warm"})
    project = tuned.project

    project.git("mv", "functions/tuned.py", "functions/voiced.py")
    project.write("voiced.py", TUNED + "\n# edited too\n")
    project.commit("rename")

    wait_for("the values", lambda: client.get(f"{API}/id/voiced/valves/user").json() == {"tone": "warm"})
    assert client.get(f"{API}/id/tuned/valves/user").status_code == 404
    assert seen(client, "voiced")["user"]["tone"] == "warm"
