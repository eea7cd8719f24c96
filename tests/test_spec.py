"""What a worker is made from: valves with their references, and the variables it may see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fnsync.errors import LoadFailed, StoreError, ValvesUnfit
from fnsync.model import (
    Frontmatter,
    FunctionId,
    Kind,
    Limits,
    LiveFunction,
    Manifest,
    Misfit,
    Permissions,
    Revision,
    Settings,
)
from fnsync.runtime.spec import Decrypt, Sources, resolvable_spec_of, spec_of

ENVIRON = {"DEEPL_KEY": "deepl", "OTHER": "other", "FNSYNC_ADMIN_TOKEN": "secret"}


def decrypt(text: str) -> str:
    if not text.startswith("gAAAA"):
        raise StoreError("not a text of this key")
    return text.removeprefix("gAAAA")


def sources(decrypt: Decrypt | None = decrypt) -> Sources:
    return Sources(lambda revision: Path("/snapshots") / revision, ENVIRON, decrypt)


def function(valves: dict[str, Any], env: tuple[str, ...] = ()) -> LiveFunction:
    return LiveFunction(
        id=FunctionId("probe"),
        name="probe",
        kind=Kind.PIPE,
        revision=Revision("0" * 64),
        path="probe.py",
        entry="function/main.py",
        manifest=Manifest(Kind.PIPE),
        frontmatter=Frontmatter(),
        settings=Settings(valves=valves, permissions=Permissions(env=env)),
        limits=Limits(),
        active=True,
        environment="base",
        updated_at=0,
        shown={},
    )


def test_a_worker_sees_what_its_settings_name_and_nothing_else() -> None:
    found = spec_of(function({"key": {"env": "DEEPL_KEY"}, "plain": 1}, ("OTHER", "NOT_THERE")), sources())

    assert found.valves == {"key": "deepl", "plain": 1}
    assert found.variables == {"OTHER": "other"}


@pytest.mark.parametrize(
    ("valves", "env", "key"),
    [
        ({}, ("OTHER", "FNSYNC_ADMIN_TOKEN"), "permissions.env"),
        ({"key": {"env": "FNSYNC_ADMIN_TOKEN"}}, (), "valves.key"),
        ({"key": {"env": "FNSYNC_SECRET_KEY"}}, (), "valves.key"),
    ],
)
def test_the_servers_own_variables_reach_no_worker(valves: dict[str, Any], env: tuple[str, ...], key: str) -> None:
    with pytest.raises(LoadFailed, match=rf"{key}: FNSYNC_\w+ is the server's own") as caught:
        spec_of(function(valves, env), sources())

    assert caught.value.problem.path == "probe.yaml"
    assert caught.value.hint


def test_secrets_reach_the_worker_decrypted() -> None:
    stored = {"key": {"secret": "gAAAAopen sesame"}, "table": {"secret": 5}, "pair": {"secret": "a", "env": "b"}}
    found = spec_of(function(stored), sources())

    assert found.valves == {**stored, "key": "open sesame"}


def test_a_secret_of_another_key_is_named_with_the_way_out() -> None:
    with pytest.raises(ValvesUnfit) as caught:
        spec_of(function({"plain": 1, "api_key": {"secret": "b3RoZXI="}}), sources())

    problem = caught.value.problem
    assert problem.code == "valves" and problem.path == "probe.yaml"
    assert problem.message == "valves.api_key: it was encrypted with another key than this server's"
    assert "FNSYNC_SECRET_KEY" in (problem.hint or "")
    assert "b3RoZXI=" not in str(caught.value)


def test_a_server_that_cannot_decrypt_says_so() -> None:
    with pytest.raises(ValvesUnfit, match=r"valves\.api_key: it is encrypted, and this server cannot") as caught:
        spec_of(function({"api_key": {"secret": "gAAAAx"}}), sources(decrypt=None))

    assert caught.value.hint == "give it as `api_key: {env: NAME}` instead"


def test_what_a_reference_lacks_counts_as_missing_and_all_of_it_is_told() -> None:
    stored = {"one": {"env": "GONE"}, "two": {"secret": "x"}, "three": 3}
    found, refused = resolvable_spec_of(function(stored), sources())

    assert found.valves == {"three": 3}
    assert [misfit for exc in refused for misfit in exc.misfits] == [
        Misfit("one", "the server's environment has no variable GONE", missing=True),
        Misfit("two", "it was encrypted with another key than this server's", missing=True),
    ]
