"""Valves: what is told of their classes, which values fit, and that nobody sees what is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fnsync.errors import (
    CrashLoop,
    Draining,
    FnsyncError,
    FunctionError,
    InvalidValves,
    LoadFailed,
    NotFound,
    StoreError,
    TimeLimit,
    ValvesUnfit,
    WorkerDied,
)
from fnsync.model import LiveFunction, Misfit
from fnsync.runtime import executor, pool
from tests.workbench import Bench, until, within

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


USER_VALVES = """
from pydantic import BaseModel
class Pipe:
    class UserValves(BaseModel):
        tone: str = "plain"
        times: int = 1
    def pipe(self, body, __user__):
        return __user__["valves"].tone
"""
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


REFUSED = "its own validator refuses the value"
TALKATIVE = """
from typing import Literal
from pydantic import BaseModel, field_validator, model_validator
class Pipe:
    class Valves(BaseModel):
        key: str = ""
        other: str = ""
        mail: str = ""
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
        @field_validator("mail")
        @classmethod
        def check_mail(cls, value, info):
            if value == "kind@":
                raise RuntimeError(f"cannot take {value}")
            if value and "@" not in value:
                raise ValueError(f"{value!r} has no @" if value == "not-me" else f"has no @: {info.data}")
            return value
        @field_validator("number")
        @classmethod
        def check_number(cls, value):
            assert value < 5, f"{value} is more than 4"
            return value
        @model_validator(mode="after")
        def check_all(self):
            if self.other == "not-me":
                raise ValueError(f"{self.other} does not go with {self.key or 'you'}")
            return self
    def __init__(self):
        self.valves = self.Valves()
"""


@pytest.mark.parametrize(
    ("valves", "misfit"),
    [
        ({"key": "sk-1234"}, Misfit("key", f"{REFUSED}: ValueError")),
        ({"mail": "not-me"}, Misfit("mail", "Value error, '…' has no @")),
        ({"mail": "not-me", "key": "kin"}, Misfit("mail", "Value error, '…' has no @")),
        ({"mail": "not 'me", "key": "open\nsesame"}, Misfit("mail", f"{REFUSED}: ValueError")),
        ({"number": 70}, Misfit("number", "Assertion failed, … is more than 4")),
        ({"key": "kind"}, Misfit("Valves", f"{REFUSED}: RuntimeError")),
        ({"mail": "kind@"}, Misfit("Valves", "RuntimeError: cannot take …")),
        ({"other": "not-me"}, Misfit("Valves", "Value error, … does not go with you")),
        ({"other": "not-me", "key": "open sesame"}, Misfit("Valves", f"{REFUSED}: ValueError")),
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


async def test_valves_are_there_without_a_line_in_the_constructor(bench: Bench) -> None:
    """Stored or not; in the peer the first call would fail for want of the attribute."""
    source = LIMITED.replace("    def __init__(self):\n        self.valves = self.Valves()\n", "")
    assert (await bench.call(bench.function(source, id="bare"))).startswith("3 ")
    assert (await bench.call(bench.function(source, id="bare_stored", valves={"limit": 5}))).startswith("5 ")
    bare = REQUIRED.replace("    def __init__(self):\n        self.valves = None\n", "")
    assert (await refused(bench, bench.function(bare, id="bare_required"))).misfits == (MISSING,)


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


async def test_a_revision_that_went_live_is_no_trial_any_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "TRIAL_S", 0.1)
    function = bench.function(LIMITED, id="went_live")
    await bench.executor.try_load(function)
    await bench.executor.load(function)
    (pid,) = bench.pids(function)
    await asyncio.sleep(1.2)
    assert bench.pids(function) == [pid], "it was ended although it may be called"


async def test_a_server_that_stops_answers_no_questions(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        function = bench.function(LIMITED)
    with pytest.raises(Draining):
        await bench.executor.check_valves(function, "valves", {})


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
    sealed = bench.function(LIMITED, id="sealed", valves={"limit": {"secret": SEALED}})
    trial = await bench.executor.try_load(sealed)
    assert trial.wrong == () and "another key" in trial.misfits[0].message
    assert sealed.revision not in bench.executor.in_use(), "its worker would have served with other values"
    with pytest.raises(LoadFailed, match=r"valves\.limit: it was encrypted with another key"):
        await bench.executor.load(sealed)


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


# ---- checking ------------------------------------------------------------------------------------------------------

EVERYTHING = """
from collections import deque
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Literal, Optional
from uuid import UUID
from pydantic import AnyUrl, BaseModel, Field, SecretBytes, SecretStr
class Speed(Enum):
    low = "low"
    high = "high"
class Level(IntEnum):
    one = 1
class Inner(BaseModel):
    host: str = "h"
    port: int = 1
    token: SecretStr = SecretStr("")
class Filter:
    class Valves(BaseModel):
        retries: int = Field(default=2, ge=0, le=5)
        ratio: float = 0.5
        verbose: bool = False
        mode: Literal["fast", "slow"] = "fast"
        note: Optional[str] = None
        tags: list[str] = []
        key: SecretStr = SecretStr("")
        raw: SecretBytes = SecretBytes(b"")
        day: date = date(2000, 1, 1)
        at: datetime = datetime(2000, 1, 1)
        wait: timedelta = timedelta(0)
        speed: Speed = Speed.low
        level: Level = Level.one
        inner: Inner = Inner()
        inners: list[Inner] = []
        table: dict[int, Speed] = {}
        names: set[str] = set()
        queue: deque[int] = deque()
        price: Decimal = Decimal(0)
        url: AnyUrl = AnyUrl("http://localhost")
        file: Path = Path("x")
        id: Optional[UUID] = None
        any: Any = None
    def inlet(self, body):
        return body
"""


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({}, {}),
        ({"retries": "3", "verbose": "yes", "ratio": 1}, {"retries": 3, "ratio": 1.0, "verbose": True}),
        ({"url": None, "note": None, "retries": 1, "tags": ["a"]}, {"retries": 1, "tags": ["a"]}),
        ({"verbose": True, "mode": "slow", "retries": 4}, {"retries": 4, "verbose": True, "mode": "slow"}),
        ({"retries": 1, "colour": "red"}, {"retries": 1}),
        ({"key": "open sesame", "raw": "bytes"}, {"key": "open sesame", "raw": "bytes"}),
        ({"day": "2026-01-31", "at": "2026-01-31T10:00:00Z"}, {"day": "2026-01-31", "at": "2026-01-31T10:00:00Z"}),
        ({"wait": 90, "speed": "high", "level": "1"}, {"wait": "PT1M30S", "speed": "high", "level": 1}),
        ({"inner": {"port": "7"}}, {"inner": {"port": 7}}),
        ({"inners": [{"token": "t"}, {"host": "x"}]}, {"inners": [{"token": "t"}, {"host": "x"}]}),
        ({"table": {"1": "high"}, "names": ["n"]}, {"table": {"1": "high"}, "names": ["n"]}),
        ({"queue": ["1", 2], "price": "1.50", "file": "a/b"}, {"queue": [1, 2], "price": "1.50", "file": "a/b"}),
        ({"url": "https://x.org/a"}, {"url": "https://x.org/a"}),
        ({"id": "12345678-1234-5678-1234-567812345678"}, {"id": "12345678-1234-5678-1234-567812345678"}),
        ({"any": {"a": [1, {"b": None}]}}, {"any": {"a": [1, {"b": None}]}}),
    ],
)
async def test_values_are_stored_as_the_class_understands_them(
    bench: Bench, sent: dict[str, Any], stored: dict[str, Any]
) -> None:
    found = await bench.executor.check_valves(bench.function(EVERYTHING, id="everything"), "valves", sent)
    assert list(found.items()) == list(stored.items())


@pytest.mark.parametrize(
    ("sent", "misfits"),
    [
        ({"retries": "many"}, {"retries": "Input should be a valid integer, unable to parse string as an integer"}),
        (
            {"retries": 99, "mode": "medium"},
            {"retries": "Input should be less than or equal to 5", "mode": "Input should be 'fast' or 'slow'"},
        ),
        (
            {"inner": {"port": "x"}, "inners": [{}, 5]},
            {
                "inner.port": "Input should be a valid integer, unable to parse string as an integer",
                "inners.1": "Input should be a valid dictionary or instance of Inner",
            },
        ),
        ({"ratio": float("nan")}, {"ratio": "cannot be stored: it is no finite number"}),
        ({"any": 2**70}, {"any": "a function cannot be given this: can't serialize ints < -2**63 or > 2**64 - 1"}),
        ({"retries": 1, "any": "half \ud800"}, {"any": "a function cannot be given this: it is not UTF-8"}),
    ],
)
async def test_values_that_do_not_fit_are_named(bench: Bench, sent: dict[str, Any], misfits: dict[str, str]) -> None:
    with pytest.raises(InvalidValves) as caught:
        await bench.executor.check_valves(bench.function(EVERYTHING, id="everything"), "valves", sent)
    assert caught.value.misfits == tuple(Misfit(field, message) for field, message in misfits.items())
    assert caught.value.status == 400
    assert caught.value.message == "; ".join(f"{field}: {message}" for field, message in misfits.items())


async def test_a_value_that_only_becomes_too_large_is_refused_as_well(bench: Bench) -> None:
    """It would be stored, and no worker could be started with it."""
    with pytest.raises(InvalidValves, match="limit: a function cannot be given this"):
        await bench.executor.check_valves(bench.function(LIMITED, id="huge"), "valves", {"limit": str(2**70)})


async def test_missing_values_are_told_apart(bench: Bench) -> None:
    for function in (bench.function(REQUIRED, id="needs"), bench.function(REQUIRED, id="needs", valves={"limit": []})):
        with pytest.raises(InvalidValves) as caught:
            await bench.executor.check_valves(function, "valves", {"limit": "x"})
        assert [(misfit.field, misfit.missing) for misfit in caught.value.misfits] == [
            ("api_key", True),
            ("limit", False),
        ]
        stored = await bench.executor.check_valves(function, "valves", {"api_key": "sk"})
        assert stored == {"api_key": "sk"}, "the secret is what is stored"
    await until("the end of the workers", lambda: not bench.pids(function))
    assert function.revision not in bench.executor.in_use(), "a question must not make a revision live"


@pytest.mark.parametrize(
    ("config", "stored"), [('extra="allow"', {"priority": 2, "colour": "red"}), ('extra="ignore"', {"priority": 2})]
)
async def test_unknown_keys_follow_the_class(bench: Bench, config: str, stored: dict[str, Any]) -> None:
    source = "from pydantic import BaseModel, ConfigDict\nclass Filter:\n    class Valves(BaseModel):\n"
    source += "        model_config = ConfigDict({})\n        priority: int = 0\n"
    function = bench.function(source.format(config), id="extra")
    assert await bench.executor.check_valves(function, "valves", {"priority": "2", "colour": "red"}) == stored
    with pytest.raises(InvalidValves, match="colour: Extra inputs are not permitted"):
        strict = bench.function(source.format('extra="forbid"'), id="extra")
        await bench.executor.check_valves(strict, "valves", {"priority": 2, "colour": "red"})


ODD = """
from pydantic import BaseModel, Field, computed_field, field_validator
class Pipe:
    class Valves(BaseModel):
        key: str = Field(alias="apiKey", default="")
        base: str = ""
        words: list[str] = []
        @computed_field
        @property
        def length(self) -> int:
            return len(self.key)
        @field_validator("words", mode="before")
        @classmethod
        def split(cls, value):
            return value.split(",")
    def __init__(self):
        self.valves = self.Valves(base="constructor")
    def pipe(self, body):
        return f"{self.valves.key} {self.valves.base}"
"""


async def test_what_is_stored_can_be_read_again(bench: Bench) -> None:
    """A field is stored under the name it is read by; what only the function makes of it is not stored."""
    function = bench.function(ODD, id="odd")
    stored = await bench.executor.check_valves(function, "valves", {"apiKey": "k"})
    assert stored == {"apiKey": "k"}, "values of the constructor are none of the settings'"
    open_source = ODD.replace("base: str", "model_config = {'extra': 'allow'}\n        base: str")
    function = bench.function(open_source, id="odd_and_open")
    assert await bench.executor.check_valves(function, "valves", {"apiKey": "k", "x": 1}) == {"apiKey": "k", "x": 1}
    assert await bench.call(bench.function(ODD, id="odd", valves=stored)) == "k constructor"
    with pytest.raises(InvalidValves, match="words|Valves: would not fit any more once it is stored"):
        await bench.executor.check_valves(function, "valves", {"words": "a,b"})


async def test_what_the_constructor_gives_is_not_missing(bench: Bench) -> None:
    source = REQUIRED.replace("self.valves = None", "self.valves = self.Valves(api_key='own')")
    function = bench.function(source, id="given")
    assert await bench.executor.check_valves(function, "valves", {"limit": "5"}) == {"limit": 5}
    assert await bench.executor.check_valves(function, "valves", {"api_key": "own"}) == {"api_key": "own"}


async def test_a_function_cannot_make_a_reference_of_a_value(bench: Bench) -> None:
    """It would be given a variable of the server that nobody meant for it."""
    source = (
        "from pydantic import BaseModel, field_validator\nclass Pipe:\n    class Valves(BaseModel):\n"
        "        name: object = ''\n        @field_validator('name')\n        @classmethod\n"
        "        def turn(cls, value):\n            return {'env': 'GIVEN'}\n    UserValves = Valves\n"
    )
    function = bench.function(source, id="sly")
    with pytest.raises(InvalidValves, match="name: in a settings file this would refer to a value elsewhere"):
        await bench.executor.check_valves(function, "valves", {"name": "x"})
    stored = await bench.executor.check_valves(function, "user_valves", {"name": "x"})
    assert stored == {"name": {"env": "GIVEN"}}, "in user valves nothing refers to anything"


async def test_pipelines_and_user_valves_are_checked_by_their_own_class(bench: Bench) -> None:
    function = bench.function(PIPELINE, id="checked_pipeline")
    assert await bench.executor.check_valves(function, "valves", {"limit": "7"}) == {"limit": 7}
    toned = bench.function(USER_VALVES, id="checked_user")
    assert await bench.executor.check_valves(toned, "user_valves", {"tone": "warm", "colour": "red"}) == {
        "tone": "warm"
    }
    with pytest.raises(NotFound, match="checked_pipeline has no UserValves"):
        await bench.executor.check_valves(function, "user_valves", {})
    with pytest.raises(NotFound, match="checked_user has no Valves"):
        await bench.executor.check_valves(toned, "valves", {})


async def test_values_are_checked_in_the_worker_that_is_there(bench: Bench) -> None:
    function = bench.function(LIMITED, id="there")
    await bench.executor.load(function)
    pids = bench.pids(function)
    started = bench.executor.next_id()
    assert await bench.executor.check_valves(function, "valves", {"limit": 5}) == {"limit": 5}
    assert bench.executor.next_id() == started + 2, "one request was enough"
    assert bench.pids(function) == pids
    assert await bench.call(function) == f"3 {pids[0]}", "checking must not set anything"


async def test_an_idle_function_is_checked_by_its_next_worker(bench: Bench) -> None:
    function = bench.function(LIMITED, id="idle", idle_s=0.1)
    await bench.executor.load(function)
    await until("the end of the idle worker", lambda: not bench.pids(function))
    assert await bench.executor.check_valves(function, "valves", {"limit": 5}) == {"limit": 5}
    assert len(bench.pids(function)) == 1, "it stays for the call that may follow"


BLOCKED = LIMITED.replace("def pipe(self, body):", "async def pipe(self, body):\n        import time; time.sleep(60)")


async def test_a_worker_with_a_blocked_loop_keeps_nobody_from_setting_valves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value to be set may be the very reason for it."""
    monkeypatch.setattr(executor, "CHECK_S", 0.3)
    function = bench.function(BLOCKED, id="blocked")
    running = asyncio.create_task(bench.call(function))
    await until("the call", lambda: bench.executor.health("blocked").calls == 1)
    await asyncio.sleep(0.1)
    assert await within(3, "the check", bench.executor.check_valves(function, "valves", {"limit": "1"})) == {"limit": 1}
    running.cancel()
    await asyncio.wait([running])


async def test_a_function_that_crashes_again_and_again_can_be_given_other_valves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "BACKOFF_S", 60.0)
    source = LIMITED.replace("        import os\n", "        import os\n        self.valves.limit or os._exit(3)\n")
    function = bench.function(source, id="crashing", valves={"limit": 0})
    for _ in range(pool.CRASHES):
        with pytest.raises(WorkerDied):
            await bench.call(function)
    with pytest.raises(CrashLoop):
        await bench.call(function)
    assert await bench.executor.check_valves(function, "valves", {"limit": "1"}) == {"limit": 1}
    with pytest.raises(CrashLoop):
        await bench.call(function)


HOSTILE = """
import os, time
from pydantic import BaseModel, field_validator
class Pipe:
    class Valves(BaseModel):
        how: str = ""
        @field_validator("how")
        @classmethod
        def act(cls, value):
            if value == "hang":
                time.sleep(60)
            if value == "exit":
                os._exit(3)
            if value == "stop":
                raise SystemExit("stop")
            return "x" * 5_000_000 if value == "flood" else value
    def __init__(self):
        self.valves = self.Valves()
    def pipe(self, body):
        return "still here"
"""


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ("hang", TimeLimit, "did not answer within 0.3 s"),
        ("exit", WorkerDied, "exited with status 3"),
        ("stop", LoadFailed, "stop"),
        ("flood", FunctionError, "5,000,0.. bytes are too much"),
    ],
)
async def test_a_validator_that_misbehaves_fails_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str, error: type[FnsyncError], says: str
) -> None:
    monkeypatch.setattr(executor, "CHECK_S", 0.3)
    monkeypatch.setattr(executor, "ANSWER_S", 0.3)
    function = bench.function(HOSTILE, id=f"hostile_{how}")
    await bench.executor.load(function)
    with pytest.raises(error, match=says):
        await within(5, "the check", bench.executor.check_valves(function, "valves", {"how": how}))
    assert await within(5, "the next call", bench.call(function)) == "still here"
    assert await bench.executor.check_valves(function, "valves", {"how": "well"}) == {"how": "well"}
    await until("the end of workers for questions", lambda: len(bench.pids(function)) == 1)


LIE = """
import os, socket, struct, msgspec
from pydantic import BaseModel
def send(value):
    data = msgspec.msgpack.encode(value)
    for fd in range(3, 64):
        try:
            other = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if other.family == socket.AF_UNIX:
            try:
                other.sendall(struct.pack(">I", len(data)) + data)
            except OSError:
                pass
class Pipe:
    class Valves(BaseModel):
        x: int = 0
"""


DEEP = b'{"misfits": [], "values": {"x": ' + b"[" * 100_000


@pytest.mark.parametrize(
    "told", [b"no json", b"[]", b'{"misfits": [], "values": [1]}', b'{"misfits": 5, "values": {}}', DEEP]
)
async def test_a_worker_that_lies_about_values_is_not_believed(bench: Bench, told: bytes) -> None:
    id = bench.executor.next_id()
    lies = f"for id in range({id} + 2, {id} + 20): send([21, id, 'json', {told!r}, None])\n"
    source = LIE + "    def __init__(self):\n        import threading\n        threading.Timer(1.5, self.lie).start()\n"
    source += f"    def lie(self):\n        {lies.replace(chr(10), '')}\n"
    source += "    @property\n    def pipe(self): ...\n"
    slow = source.replace("x: int = 0", "x: int = 0\n        def model_post_init(self, _): __import__('time').sleep(1)")
    with pytest.raises(FunctionError, match="what its worker told is not understood"):
        await within(8, "the check", bench.executor.check_valves(bench.function(slow, id="liar"), "valves", {"x": 1}))


# ---- user valves ---------------------------------------------------------------------------------------------------

MEETING = """
import asyncio, threading
from pydantic import BaseModel
BARRIER = threading.Barrier(8)
class {kind}:
    class UserValves(BaseModel):
        tone: str = "plain"
        words: list[str] = []
    {form} {handler}(self, {body}, __user__=None):
        valves = __user__["valves"]
        valves.words.append(valves.tone)
        {meet}
        {give} {{"tone": valves.tone, "words": valves.words, "id": __user__["id"], "class": type(valves).__name__}}
"""
SYNC = {"form": "def", "meet": "BARRIER.wait(10)", "give": "return"}
ASYNC = {"form": "async def", "meet": "await asyncio.sleep(0.05)", "give": "return"}
GENERATOR = {**SYNC, "give": "yield"}
ASYNC_GENERATOR = {**ASYNC, "give": "yield"}
FORMS = {
    "sync pipe": {"kind": "Pipe", "handler": "pipe", "body": "body", **SYNC},
    "async pipe": {"kind": "Pipe", "handler": "pipe", "body": "body", **ASYNC},
    "generator pipe": {"kind": "Pipe", "handler": "pipe", "body": "body", **GENERATOR},
    "async generator pipe": {"kind": "Pipe", "handler": "pipe", "body": "body", **ASYNC_GENERATOR},
    "sync inlet": {"kind": "Filter", "handler": "inlet", "body": "body", **SYNC},
    "async inlet": {"kind": "Filter", "handler": "inlet", "body": "body", **ASYNC},
    "stream": {"kind": "Filter", "handler": "stream", "body": "event", **SYNC},
    "outlet": {"kind": "Filter", "handler": "outlet", "body": "body", **ASYNC},
    "action": {"kind": "Action", "handler": "action", "body": "body", **ASYNC},
    "event": {"kind": "Event", "handler": "event", "body": "event", **SYNC},
}


@pytest.mark.parametrize("form", FORMS)
async def test_users_that_call_at_once_never_see_each_others_valves(bench: Bench, form: str) -> None:
    """All eight are in the handler together, so what they share they would see."""
    function = bench.function(MEETING.format(**FORMS[form]), id="meeting")
    handler = FORMS[form]["handler"]

    async def one(n: int) -> None:
        given = {"context": {"__user__": {"id": f"u{n}"}}, "user_valves": {"tone": f"t{n}"} if n % 2 else {}}
        if FORMS[form]["give"] == "yield":
            [answer] = await bench.items(function, **given)
        else:
            answer = await bench.call(function, handler=handler, **given)
        tone = f"t{n}" if n % 2 else "plain"
        assert answer == {"tone": tone, "words": [tone], "id": f"u{n}", "class": "UserValves"}

    for _ in range(3):
        await within(10, "eight calls", asyncio.gather(*(one(n) for n in range(8))))


async def test_user_valves_that_no_longer_fit_give_the_defaults_and_a_line_in_the_log(bench: Bench) -> None:
    source = USER_VALVES + "# with a change since they were stored\n"
    function = bench.function(source, id="outdated")
    user = {"__user__": {"id": "u1"}}
    assert await bench.call(function, context=user, user_valves={"tone": "warm", "times": None}) == "warm"
    assert bench.log("outdated") == []
    assert await bench.call(function, context=user, user_valves={"tone": "warm", "times": "often"}) == "plain"
    [line] = await until("the line", lambda: bench.executor.logs.tail("outdated"))
    assert line.text.startswith("stored user valves are not used: times: Input should be a valid integer")
    assert "often" not in line.text and line.call is not None


NEEDY = """
from pydantic import BaseModel
class {kind}:
    class UserValves(BaseModel):
        token: str
    def {handler}(self, body, __user__):
        return {{"valves": "valves" in __user__}}
"""


async def test_a_pipe_says_which_user_valve_it_needs(bench: Bench) -> None:
    function = bench.function(NEEDY.format(kind="Pipe", handler="pipe"), id="needy")
    user = {"__user__": {"id": "u1"}}
    for stored in ({}, {"token": 5}):
        with pytest.raises(InvalidValves) as caught:
            await bench.call(function, context=user, user_valves=stored)
        assert caught.value.status == 400
        assert caught.value.message == "user valves of needy: token: Field required"
        assert caught.value.misfits == (Misfit("token", "Field required", missing=True),)
        assert "/api/functions/id/needy/valves/user/update" in (caught.value.hint or "")
    assert await bench.call(function, context=user, user_valves={"token": "t"}) == {"valves": True}


@pytest.mark.parametrize(("kind", "handler"), [("Filter", "inlet"), ("Filter", "outlet"), ("Action", "action")])
async def test_what_surrounds_a_chat_goes_without_missing_user_valves(bench: Bench, kind: str, handler: str) -> None:
    """A global filter must not end the chats of everyone who never heard of it."""
    function = bench.function(NEEDY.format(kind=kind, handler=handler), id=f"needy_{handler}")
    user = {"__user__": {"id": "u1"}}
    assert await bench.call(function, handler=handler, context=user) == {"valves": False}
    lines = await until("the line", lambda: bench.log(f"needy_{handler}"))
    assert lines == ["this user has no user valves: token: Field required"]
    assert await bench.call(function, handler=handler, context=user, user_valves={"token": "t"}) == {"valves": True}


async def test_user_has_no_valves_without_the_class(bench: Bench) -> None:
    function = bench.function("class Pipe:\n    def pipe(self, body, __user__):\n        return __user__\n")
    user = await bench.call(function, context={"__user__": {"id": "u"}}, user_valves={"x": 1})
    assert user["id"] == "u" and "valves" not in user
