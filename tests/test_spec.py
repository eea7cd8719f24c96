"""What a worker is made from: valves with their references, and the variables it may see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fnsync.errors import LoadFailed
from fnsync.model import Frontmatter, FunctionId, Kind, Limits, LiveFunction, Manifest, Permissions, Revision, Settings
from fnsync.runtime.spec import WorkerSpec, spec_of

ENVIRON = {"DEEPL_KEY": "deepl", "OTHER": "other", "FNSYNC_ADMIN_TOKEN": "secret"}


def spec(valves: dict[str, Any] | None = None, env: tuple[str, ...] = ()) -> WorkerSpec:
    function = LiveFunction(
        id=FunctionId("probe"),
        name="probe",
        kind=Kind.PIPE,
        revision=Revision("0" * 64),
        path="probe.py",
        entry="function/main.py",
        manifest=Manifest(Kind.PIPE),
        frontmatter=Frontmatter(),
        settings=Settings(valves=valves or {}, permissions=Permissions(env=env)),
        limits=Limits(),
        active=True,
        environment="base",
        updated_at=0,
        shown={},
    )
    return spec_of(function, lambda revision: Path("/snapshots") / revision, ENVIRON)


def test_a_worker_sees_what_its_settings_name_and_nothing_else() -> None:
    found = spec({"key": {"env": "DEEPL_KEY"}, "plain": 1}, ("OTHER", "NOT_THERE"))

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
        spec(valves, env)

    assert caught.value.problem.path == "probe.yaml"
    assert caught.value.hint
