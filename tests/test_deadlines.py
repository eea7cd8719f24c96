"""One timer for many deadlines."""

from __future__ import annotations

import asyncio

from fnsync.deadlines import Deadlines


def test_what_is_not_discarded_is_due_in_order() -> None:
    async def run() -> list[str]:
        due: list[str] = []
        done = asyncio.Event()

        def on_due(item: str) -> None:
            due.append(item)
            if item == "last":
                done.set()

        deadlines = Deadlines[str](0.01, on_due)
        for item in ("first", "discarded", "second"):
            deadlines.add(item)
        deadlines.discard("discarded")
        deadlines.discard("never there")
        await asyncio.sleep(0.005)
        deadlines.add("last")
        await asyncio.wait_for(done.wait(), 5)
        return due

    assert asyncio.run(run()) == ["first", "second", "last"]


def test_it_goes_on_after_all_were_discarded() -> None:
    async def run() -> None:
        due = asyncio.Event()
        deadlines = Deadlines[int](0.01, lambda _: due.set())
        deadlines.add(1)
        deadlines.discard(1)
        await asyncio.sleep(0.03)
        assert not due.is_set(), "a discarded item was due"
        deadlines.add(2)
        await asyncio.wait_for(due.wait(), 5)

    asyncio.run(run())
