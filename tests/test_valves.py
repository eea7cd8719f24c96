"""Valves: what is told of their classes, which values fit, and that nobody sees what is another's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fnsync.errors import LoadFailed, StoreError, ValvesUnfit
from fnsync.model import LiveFunction, Misfit
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
