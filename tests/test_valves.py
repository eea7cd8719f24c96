"""Valves: what is told of their classes, which values fit, and that nobody sees what is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fnsync.errors import LoadFailed, StoreError, ValvesUnfit, WorkerDied
from fnsync.model import LiveFunction, Misfit
from fnsync.runtime import pool
from tests.workbench import Bench, until

pytestmark = pytest.mark.anyio

#: What `decrypt` refuses.
SEALED = "sealed"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


def decrypt(text: str) -> str:
    if text == SEALED:
        raise StoreError("another key")
    return f"{text} decrypted"


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with Bench(tmp_path_factory.mktemp("bench"), environ={"GIVEN": "from outside"}, decrypt=decrypt) as bench:
        yield bench


REQUIRED = """
from pydantic import BaseModel, SecretStr
class Pipe:
    class Valves(BaseModel):
        api_key: SecretStr
        limit: int = 3
    def __init__(self):
        self.valves = None
    def pipe(self, body):
        return f"{self.valves.api_key.get_secret_value()} {self.valves.limit}"
"""
MISSING = Misfit("api_key", "Field required", missing=True)


async def refused(bench: Bench, function: LiveFunction) -> ValvesUnfit:
    """Load it; return why its valves keep it from going live."""
    before = bench.pids(function)
    with pytest.raises(ValvesUnfit) as caught:
        await bench.executor.load(function)
    await until("the end of its worker", lambda: bench.pids(function) == before)
    return caught.value


# ---- loading -------------------------------------------------------------------------------------------------------


async def test_a_revision_is_known_before_its_valves_are_set(bench: Bench) -> None:
    """Otherwise nobody could learn which values it needs."""
    error = await refused(bench, bench.function(REQUIRED, id="unset"))
    assert (error.problem.code, error.problem.message) == ("valves", "valves do not fit: api_key: Field required")
    assert error.misfits == (MISSING,)
    assert error.manifest is not None and error.manifest.handler("pipe") is not None
    assert error.manifest.valves_schema is not None and error.manifest.valves_schema["required"] == ["api_key"]
    assert await bench.call(bench.function(REQUIRED, id="unset", valves={"api_key": "k"})) == "k 3"


async def test_values_that_do_not_fit_are_told_apart_from_missing_ones(bench: Bench) -> None:
    error = await refused(bench, bench.function(REQUIRED, id="unfit", valves={"limit": "many"}))
    wrong = Misfit("limit", "Input should be a valid integer, unable to parse string as an integer")
    assert error.misfits == (MISSING, wrong)
    assert error.problem.message.endswith(f"api_key: Field required; {wrong}")


async def test_a_worker_started_later_refuses_valves_too(bench: Bench) -> None:
    """Its pool knows the manifest already, so it does not describe itself again."""
    good = bench.function(REQUIRED, id="later", valves={"api_key": "k"})
    await bench.executor.load(good)
    error = await refused(bench, bench.function(REQUIRED, id="later", valves={"limit": 1}))
    assert error.misfits == (MISSING,) and error.manifest is not None
    assert await bench.call(good) == "k 3"


async def test_valves_that_change_are_checked_field_by_field(bench: Bench) -> None:
    await bench.executor.load(bench.function(REQUIRED, id="changing", valves={"api_key": "k"}))
    with pytest.raises(ValvesUnfit) as caught:
        await bench.executor.configure(bench.function(REQUIRED, id="changing", valves={"limit": 1}))
    assert caught.value.misfits == (MISSING,)
    assert caught.value.problem.message == "valves do not fit: api_key: Field required"


async def test_encrypted_valves_reach_the_function_in_clear(bench: Bench) -> None:
    function = bench.function(REQUIRED, id="encrypted", valves={"api_key": {"secret": "text"}})
    assert await bench.call(function) == "text decrypted 3"
    await bench.executor.configure(bench.function(REQUIRED, id="encrypted", valves={"api_key": {"secret": "other"}}))
    assert await bench.call(function) == "other decrypted 3"
    with pytest.raises(LoadFailed, match=r"valves\.api_key: it was encrypted with another key"):
        await bench.executor.configure(bench.function(REQUIRED, id="encrypted", valves={"api_key": {"secret": SEALED}}))
    assert await bench.call(function) == "other decrypted 3"


TALKATIVE = """
from typing import Literal
from pydantic import BaseModel, field_validator, model_validator
class Pipe:
    class Valves(BaseModel):
        key: str = ""
        other: str = ""
        number: int = 0
        mode: Literal["fast", "slow"] = "fast"
        @field_validator("key")
        @classmethod
        def check_key(cls, value):
            if value.startswith("sk"):
                raise ValueError(f"{value!r} is no key")
            if value == "kind":
                raise RuntimeError(f"cannot take {value}")
            return value
        @field_validator("number")
        @classmethod
        def check_number(cls, value):
            assert value < 5, f"{value} is more than 4"
            return value
        @model_validator(mode="after")
        def check_all(self):
            if self.other == "not-me":
                raise ValueError(f"{self.other} does not go with {self.key}")
            return self
    def __init__(self):
        self.valves = self.Valves()
"""


@pytest.mark.parametrize(
    ("valves", "misfit"),
    [
        ({"key": "sk-1234"}, Misfit("key", "Value error, '…' is no key")),
        ({"number": 70}, Misfit("number", "Assertion failed, … is more than 4")),
        ({"key": "kind"}, Misfit("Valves", "RuntimeError: cannot take …")),
        ({"other": "not-me", "key": "open sesame"}, Misfit("Valves", "Value error, … does not go with …")),
        ({"mode": "medium", "key": "fast"}, Misfit("mode", "Input should be 'fast' or 'slow'")),
    ],
)
async def test_what_is_told_of_a_value_does_not_contain_it(
    bench: Bench, valves: dict[str, Any], misfit: Misfit
) -> None:
    error = await refused(bench, bench.function(TALKATIVE, id="talkative", valves=valves))
    assert error.misfits == (misfit,)


async def test_valves_made_too_early_are_explained(bench: Bench) -> None:
    source = REQUIRED.replace("self.valves = None", "self.valves = self.Valves()")
    with pytest.raises(LoadFailed, match="api_key") as caught:
        await bench.executor.load(bench.function(source, id="early", valves={"api_key": "k"}))
    assert caught.value.problem.code == "load_failed" and caught.value.problem.line == 8
    assert "leave `self.valves` out of it" in (caught.value.hint or "")
    late = source.replace("        self.valves = self.Valves()\n", "        pass\n")
    assert await bench.call(bench.function(late, id="early", valves={"api_key": "k"})) == "k 3"


# ---- trying a revision before it goes live -------------------------------------------------------------------------

LIMITED = """
from pydantic import BaseModel
class Pipe:
    class Valves(BaseModel):
        limit: int = 3
    def __init__(self):
        self.valves = self.Valves()
    def pipe(self, body):
        import os
        return f"{self.valves.limit} {os.getpid()}"
"""


async def test_a_revision_that_was_tried_goes_live_in_the_worker_it_has(bench: Bench) -> None:
    function = bench.function(LIMITED, id="tried", valves={"limit": 9})
    trial = await bench.executor.try_load(function)
    assert trial.misfits == trial.wrong == () and trial.manifest.valves_schema is not None
    (pid,) = bench.pids(function)
    assert await bench.executor.try_load(function) == trial, "a second look costs no second worker"
    assert await bench.executor.load(function) == trial.manifest
    bench.executor.retire(function.id, keep=function.revision)
    assert await bench.call(function) == f"9 {pid}"
    assert bench.pids(function) == [pid]


async def test_a_revision_that_was_tried_in_vain_is_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "TRIAL_S", 0.2)
    live, tried = bench.function(LIMITED, id="vain"), bench.function(LIMITED + "# newer\n", id="vain")
    await bench.executor.load(live)
    bench.executor.retire(live.id, keep=live.revision)
    await bench.executor.try_load(tried)
    assert tried.revision in bench.executor.in_use(), "its snapshot is still needed"
    (pid,) = bench.pids(live)
    await until("the end of the trial's worker", lambda: not bench.pids(tried))
    await until("the end of the trial", lambda: tried.revision not in bench.executor.in_use())
    assert await bench.call(live) == f"3 {pid}", "what is live was touched"
    assert (await bench.call(tried)).startswith("3 "), "who pinned it may still call it"


async def test_a_trial_tells_wrong_values_from_missing_ones_and_keeps_nothing(bench: Bench) -> None:
    function = bench.function(REQUIRED, id="misfit", valves={"limit": "many"})
    trial = await bench.executor.try_load(function)
    assert trial.manifest.valves_schema is not None and trial.manifest.handler("pipe") is not None
    assert [misfit.field for misfit in trial.misfits] == ["api_key", "limit"]
    assert [misfit.field for misfit in trial.wrong] == ["limit"]
    await until("the end of its worker", lambda: not bench.pids(function))
    assert function.revision not in bench.executor.in_use()
    only_missing = await bench.executor.try_load(bench.function(REQUIRED, id="misfit"))
    assert only_missing.misfits == (MISSING,) and only_missing.wrong == ()


async def test_a_trial_counts_what_cannot_be_resolved_as_missing(bench: Bench) -> None:
    values = {"api_key": {"env": "GONE"}, "limit": "many"}
    trial = await bench.executor.try_load(bench.function(REQUIRED, id="unresolved", valves=values))
    assert trial.misfits[0] == Misfit("api_key", "the server's environment has no variable GONE", missing=True)
    assert [misfit.field for misfit in trial.misfits] == ["api_key", "limit"]
    sealed = await bench.executor.try_load(
        bench.function(LIMITED, id="unresolved", valves={"limit": {"secret": SEALED}})
    )
    assert sealed.wrong == () and "another key" in sealed.misfits[0].message
    with pytest.raises(LoadFailed, match=r"valves\.limit: it was encrypted with another key"):
        await bench.executor.load(bench.function(LIMITED, id="unresolved", valves={"limit": {"secret": SEALED}}))


async def test_a_trial_of_new_values_leaves_what_is_live_alone(bench: Bench) -> None:
    live = bench.function(LIMITED, id="same", valves={"limit": 1})
    await bench.executor.load(live)
    answer = await bench.call(live)
    assert (await bench.executor.try_load(bench.function(LIMITED, id="same", valves={"limit": 2}))).misfits == ()
    wrong = await bench.executor.try_load(bench.function(LIMITED, id="same", valves={"limit": []}))
    assert [misfit.field for misfit in wrong.wrong] == ["limit"]
    assert await bench.call(live) == answer
    await until("the end of the trials' workers", lambda: len(bench.pids(live)) == 1)
    assert await bench.call(live) == answer


async def test_a_trial_with_other_settings_replaces_the_one_before(bench: Bench) -> None:
    await bench.executor.try_load(bench.function(LIMITED, id="again", valves={"limit": 1}))
    function = bench.function(LIMITED, id="again", valves={"limit": 2})
    await bench.executor.try_load(function)
    await until("the end of the first trial's worker", lambda: len(bench.pids(function)) == 1)
    (pid,) = bench.pids(function)
    await bench.executor.load(function)
    assert await bench.call(function) == f"2 {pid}"


async def test_a_trial_of_what_served_before_a_restart_is_no_trial_once_it_is_called(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start puts it into the registry without loading it; the first to load it can be an edit of its settings."""
    monkeypatch.setattr(pool, "TRIAL_S", 0.1)
    function = bench.function(LIMITED, id="restored")
    await bench.executor.try_load(function)
    answer = await bench.call(function)
    for _ in range(3):
        await asyncio.sleep(0.4)
        assert await bench.call(function) == answer, "its worker was ended as a trial's"


@pytest.mark.parametrize("source", ["raise ValueError('broken')\n", "import os\nos._exit(3)\n"])
async def test_a_trial_of_a_broken_source_raises_as_its_load_would(bench: Bench, source: str) -> None:
    function = bench.function(source, id="broken")
    with pytest.raises((LoadFailed, WorkerDied)):
        await bench.executor.try_load(function)
    await until("the end of its worker", lambda: not bench.pids(function))
    assert function.revision not in bench.executor.in_use()


# ---- Pipelines -----------------------------------------------------------------------------------------------------

PIPELINE = """
from pydantic import BaseModel
class Options(BaseModel):
    limit: int = 3
    model: str = "m"
class Pipeline:
    def __init__(self):
        self.valves = Options(model="given")
    def pipe(self, user_message=None, model_id=None, messages=None, body=None):
        return f"{self.valves.limit} {self.valves.model}"
"""


async def test_a_pipelines_valves_are_of_the_class_of_its_object(bench: Bench) -> None:
    function = bench.function(PIPELINE, id="pipeline", valves={"limit": "5"})
    manifest = await bench.executor.load(function)
    assert manifest.valves_schema is not None and set(manifest.valves_schema["properties"]) == {"limit", "model"}
    assert await bench.call(function) == "5 given"
    error = await refused(bench, bench.function(PIPELINE, id="pipeline", valves={"limit": "x"}))
    assert [misfit.field for misfit in error.misfits] == ["limit"]


async def test_in_other_kinds_only_the_nested_class_counts(bench: Bench) -> None:
    source = PIPELINE.replace("class Pipeline", "class Pipe")
    manifest = await bench.executor.load(bench.function(source, id="not_nested", valves={"limit": "x"}))
    assert manifest.valves_schema is None
