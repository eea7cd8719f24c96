"""Users' values in memory: those last asked for, and never more than a bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnsync.model import FunctionId, User
from fnsync.store.state import State
from fnsync.uservalves import UserValves
from fnsync.vault import Vault

pytestmark = pytest.mark.anyio

FUNCTION = FunctionId("a")
USERS = [User(f"u{number}", "", "", "user") for number in range(8)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_what_is_kept_in_memory_is_bounded_in_bytes(any_state: State, tmp_path: Path) -> None:
    values = UserValves(any_state, Vault(tmp_path, {}), most_kept_bytes=3000)

    for number, user in enumerate(USERS):
        await values.set(FUNCTION, None, user, {"tone": str(number) * 990})
        assert 0 < values.kept_bytes <= 3000
    for _ in range(2):
        for number, user in enumerate(USERS):
            assert await values.get(FUNCTION, None, user) == {"tone": str(number) * 990}
            assert 0 < values.kept_bytes <= 3000


async def test_what_is_replaced_does_not_count_twice(any_state: State, tmp_path: Path) -> None:
    values = UserValves(any_state, Vault(tmp_path, {}))

    for size in (10, 1000, 5):
        await values.set(FUNCTION, None, USERS[0], {"tone": "x" * size})
        assert values.kept_bytes == len('{"tone":""}') + size
    await values.set(FUNCTION, None, USERS[0], {})
    assert await values.get(FUNCTION, None, USERS[0]) == {}


async def test_values_are_for_functions_of_one_owner(any_state: State, tmp_path: Path) -> None:
    values = UserValves(any_state, Vault(tmp_path, {}))

    await values.set(FUNCTION, None, USERS[0], {"tone": "warm"})
    assert await values.get(FUNCTION, "bob", USERS[0]) == {}
    await values.set(FUNCTION, "bob", USERS[0], {})
    assert await values.get(FUNCTION, None, USERS[0]) == {"tone": "warm"}, "nobody's were not asked to be forgotten"
    again = UserValves(any_state, Vault(tmp_path, {}))
    assert await again.get(FUNCTION, "bob", USERS[0]) == {}
    assert await again.get(FUNCTION, None, USERS[0]) == {"tone": "warm"}
