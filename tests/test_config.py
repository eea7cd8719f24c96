"""fnsync.yaml and FNSYNC_* variables: what is valid starts; what is not says where it stands and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fnsync.config import Config, Section, load, parse
from fnsync.errors import ConfigError
from fnsync.model import Limits, Rate

#: The whole example of the design: keys of every part of the product, also of those to come.
FULL = """
server: {host: 127.0.0.1, port: 8470, max_body: 32MB, max_header: 16KB, drain: 5s}
functions: functions
data: .fnsync                        # a comment
defaults: {active: true, timeout: 30s, memory: 256MB, concurrency: 8, workers: 2, idle: 10m, sandbox: standard}
watch: {rescan: 5s}
runtime: {idle_workers: 8}
repository: {remote: origin, branch: main, pull: 60s, push: true, write: branch}
sources:
  - {name: acme, url: "https://git.example.org/acme/functions.git", ref: main, path: functions,
     prefix: acme_, interval: 60s, prune: true, auth: {token: {env: ACME_TOKEN}}, verify: {ssh: [keys/ada.pub]}}
upstreams:
  - {name: openai, kind: openai, url: "https://api.example.org/v1", key: {env: OPENAI_API_KEY}}
  - {name: local, kind: ollama, url: "http://127.0.0.1:11434"}
auth: {user_functions: false, forwarded_user_headers: true}
rate_limits: {user: 60/minute, admin: unlimited}
policy: {imports: {deny: [pickle]}, requirements: {install: true, index: null, allow: null}}
"""


def error(text: str, **variables: str) -> str:
    """What the start says about this file and these variables."""
    with pytest.raises(ConfigError) as caught:
        parse(text, variables, root=Path("/project"))
    return str(caught.value)


def value(text: str = "", **variables: str) -> Config:
    return parse(text, variables, root=Path("/project"))


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None, {})
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8470)
    assert config.root == tmp_path
    assert config.functions == tmp_path / "functions"
    assert config.data == tmp_path / ".fnsync"
    assert config.limits == Limits()
    assert config.model_dump() == Config.model_validate({}, context={"root": tmp_path}).model_dump()


def test_every_key_of_the_design_is_understood() -> None:
    config = value(FULL)
    assert config.limits == Limits(timeout_s=30, memory_bytes=256 * 1024**2, concurrency=8, workers=2, idle_s=600)
    assert (config.server.max_body, config.server.max_header, config.server.drain) == (32 * 1024**2, 16 * 1024, 5)
    assert (config.watch.rescan, config.runtime.idle_workers) == (5, 8)
    assert (config.repository.pull, config.repository.write) == (60, "branch")
    [acme] = config.sources
    assert (acme.name, acme.prefix, acme.interval, acme.ref) == ("acme", "acme_", 60, "main")
    assert acme.verify.ssh == (Path("/project/keys/ada.pub"),)
    assert [upstream.kind for upstream in config.upstreams] == ["openai", "ollama"]
    assert (config.rate_limits.user, config.rate_limits.admin) == (Rate(60, 60), None)
    assert config.policy.imports.deny == ("pickle",)
    assert config.policy.requirements.allow is None


def test_paths_are_resolved_against_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "fnsync.yaml").write_text("functions: chat/functions\ndata: /var/lib/fnsync\n")
    monkeypatch.chdir(tmp_path)
    config = load(Path("project/fnsync.yaml"), {})
    assert config.root == folder
    assert config.functions == folder / "chat/functions"
    assert config.data == Path("/var/lib/fnsync")


def test_the_file_is_looked_for_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    inside = project / "functions" / "team"
    inside.mkdir(parents=True)
    (project / "fnsync.yaml").write_text("server: {port: 1234}\n")
    monkeypatch.chdir(inside)

    config = load(None, {})

    assert (config.root, config.functions, config.server.port) == (project, project / "functions", 1234)
    (project / "fnsync.yaml").write_text("\nserver: {prot: 1}\n")
    with pytest.raises(ConfigError, match=r"^\.\./\.\./fnsync\.yaml:2: server\.prot"):
        load(None, {})


def test_the_file_of_another_repository_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fnsync.yaml").write_text("server: {port: 1234}\n")
    inside = tmp_path / "repository" / "folder"
    inside.mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    monkeypatch.chdir(inside)

    config = load(None, {})

    assert (config.root, config.server.port) == (inside, 8470)


def test_a_variable_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("server: {port: 9001}\n")
    assert load(None, {"FNSYNC_CONFIG": str(file)}).server.port == 9001


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: there is no such file"):
        load(tmp_path / "gone.yaml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


def test_a_file_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    file = tmp_path / "fnsync.yaml"
    file.write_bytes(b"functions: fr\xfcher\n")
    with pytest.raises(ConfigError, match=r"fnsync\.yaml: is not UTF-8 \(byte 13\)"):
        load(file, {})


def test_a_byte_order_mark_and_empty_sections_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "fnsync.yaml"
    file.write_bytes(b"\xef\xbb\xbfserver:\n  # port: 1\nsources:\n")
    assert load(file, {}).server.port == 8470


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server:\n  host: a\n  prot: 1\n", "fnsync.yaml:3: server.prot: unknown key; did you mean port?"),
        ("servr: {}\n", "fnsync.yaml:1: servr: unknown key; did you mean server?"),
        ("zzz: 1\n", "fnsync.yaml:1: zzz: unknown key; known are server, functions, data,"),
        ("\npolicy:\n  imports: {dney: []}\n", "fnsync.yaml:3: policy.imports.dney: unknown key; did you mean deny?"),
        ("server: {port: abc}\n", "fnsync.yaml:1: server.port: must be a whole number"),
        ("server: {port: true}\n", "server.port: must be a whole number"),
        ("server: {port: 70000}\n", "server.port: must be 65535 or less"),
        ("server: 5\n", "server: must have keys of its own: host, port,"),
        ("server: {max_body: 3 apples}\n", "server.max_body: '3 apples' is no size; expected a number of bytes"),
        ("defaults: {timeout: soon}\n", "defaults.timeout: 'soon' is no duration; expected a number of seconds"),
        ("defaults: {timeout: 0}\n", "defaults.timeout: must be longer than 0"),
        ("defaults: {active: 1}\n", "defaults.active: must be true or false"),
        ("defaults: {sandbox: loose}\n", "defaults.sandbox: must be 'standard' or 'off'"),
        ("repository: {branch: 5}\n", "repository.branch: must be text (put it in quotes)"),
        ("rate_limits: {user: 6}\n", "rate_limits.user: 6 is no rate; expected a count and a period"),
        ("functions: 5\n", "fnsync.yaml:1: functions: must be a path"),
        ("sources: {name: a}\n", "fnsync.yaml:1: sources: must be a list"),
        ("sources:\n  - name: a\n", "fnsync.yaml:2: sources[0].url: is required"),
        ("sources:\n  - name: A b\n    url: x\n", "fnsync.yaml:2: sources[0].name: must consist of lower-case letters"),
        ("sources: [{name: a, url: x}, {name: a, url: y}]", "sources: two entries have the name a"),
        ("upstreams: [{name: a, kind: openai, url: ftp}]", "upstreams[0].url: must be a URL that begins with http"),
        ("server:\n  port: 1\n  port: 2\n", "fnsync.yaml:3: the key port is there twice; it was first given in line 2"),
        ("on: 1\n", "fnsync.yaml:1: the key on does not read as text; put it in quotes"),
        ("- a\n", "fnsync.yaml:1: must consist of keys: server,"),
        ("a: [\n", "fnsync.yaml:2: while parsing a flow node"),
        ("server: &a {host: *a}\n", "fnsync.yaml:1: nested more than 32 deep"),
        ("data: \x01\n", "fnsync.yaml:1: the character U+0001 is not allowed"),
        ("data: 2024-13-45\n", "fnsync.yaml:1: month must be in 1..12"),
        ("x: !!python/name:os.system\n", "fnsync.yaml:1: could not determine a constructor for the tag"),
    ],
)
def test_an_error_names_line_key_and_what_is_allowed(text: str, message: str) -> None:
    assert message in error(text)


def test_all_errors_are_told_at_once_in_the_order_of_the_file() -> None:
    told = error("defaults: {workers: 0}\nserver:\n  host: ''\n  prot: 1\n").splitlines()
    assert [line.split(": ")[1] for line in told] == ["defaults.workers", "server.host", "server.prot"]


def test_variables_go_over_the_file() -> None:
    config = value(
        "server: {host: 10.0.0.1, port: 1}\n",
        FNSYNC_SERVER__PORT="9000",
        FNSYNC_DATA="/tmp/x: y",
        FNSYNC_DEFAULTS__TIMEOUT="5s",
        FNSYNC_POLICY__REQUIREMENTS__INSTALL="false",
        FNSYNC_UPSTREAMS="[{name: a, kind: ollama, url: 'http://localhost:1'}]",
    )
    assert (config.server.host, config.server.port) == ("10.0.0.1", 9000)
    assert config.data == Path("/tmp/x: y")
    assert config.defaults.timeout == 5
    assert config.policy.requirements.install is False
    assert config.upstreams[0].name == "a"


def test_a_variable_for_one_key_goes_over_one_for_its_section() -> None:
    server = value(FNSYNC_SERVER="{port: 1, host: '::1'}", FNSYNC_SERVER__PORT="2").server
    assert (server.host, server.port) == ("::1", 2)


def test_a_host_that_looks_like_yaml_is_taken_as_text() -> None:
    assert value(FNSYNC_SERVER__HOST="::").server.host == "::"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FNSYNC_SERVER__PORT": "x"}, "FNSYNC_SERVER__PORT: server.port: must be a whole number"),
        ({"FNSYNC_SERVER__PROT": "1"}, "FNSYNC_SERVER__PROT: server.prot: unknown key; did you mean port?"),
        ({"FNSYNC_SERVR__PORT": "1"}, "FNSYNC_SERVR__PORT: servr: unknown key; did you mean server?"),
        ({"FNSYNC_SOURCES__0__REF": "x"}, "sources is a list and can only be set whole, with FNSYNC_SOURCES='[...]'"),
    ],
)
def test_a_bad_variable_is_named(variables: dict[str, str], message: str) -> None:
    assert message in error("", **variables)


def test_variables_of_others_are_left_alone() -> None:
    variables = {
        "FNSYNC_PORT": "tcp://10.0.0.1:8470",  # Kubernetes sets it for a service named fnsync
        "FNSYNC_ADMIN_TOKEN": "x",
        "FNSYNC_SECRET_KEY": "x",
        "FNSYNC_SERVER__PORT": "",  # set to nothing, as compose files do
    }
    assert value(**variables) == value()


def test_secrets_stay_references() -> None:
    key = value(FULL).upstreams[0].key
    assert key is not None
    assert key.value({"OPENAI_API_KEY": "sk-123"}) == "sk-123"
    with pytest.raises(ConfigError, match="the environment variable OPENAI_API_KEY is not set"):
        key.value({})


@pytest.mark.parametrize(
    "text",
    [
        "upstreams: [{name: a, kind: openai, url: 'http://h', key: s3cret}]",
        "upstreams: [{name: a, kind: openai, url: 'http://h', key: {value: s3cret}}]",
        "upstreams: [{name: a, kind: openai, url: 'http://u:s3cret@h'}]",
        "sources: [{name: a, url: 'https://u:s3cret@h/x.git'}]",
        "sources: [{name: a, url: 'https://h/x.git?private_token=s3cret'}]",
        "sources: [{name: a, url: x, auth: {token: s3cret}}]",
        "sources: [{name: a, url: x, auth: s3cret}]",
    ],
)
def test_a_secret_in_clear_is_refused_and_not_repeated(text: str) -> None:
    message = error(text)
    assert "s3cret" not in message
    assert re.search(r"\{env: NAME\}|reference to an environment variable|must have keys of its own", message)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        value().server.port = 1


def test_every_section_refuses_unknown_keys() -> None:
    assert Section.model_config["extra"] == "forbid"


@pytest.mark.parametrize("text", ["!!int ", "!!float ", "server: {port: !!int }"])
def test_an_empty_number_is_an_error_and_no_crash(text: str, tmp_path: Path) -> None:
    file = tmp_path / "fnsync.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load(file, {})
