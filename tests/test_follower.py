"""When a source is synced next: by a clock that never jumps, but for windows, which people mean by their own."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from fnsync.config import parse
from fnsync.configgit import SyncConfig
from fnsync.errors import Conflict, Draining
from fnsync.git.githubapp import GithubTokens
from fnsync.holds import Held, by_window
from fnsync.model import CommitId
from fnsync.periodic import JITTER, LONGEST_S, wait_s
from fnsync.planning import Planner
from fnsync.previews.refs import FETCHES, LocalRefs
from fnsync.reconcile import Reconciler
from fnsync.syncing.follower import Follower
from fnsync.syncing.record import Record, write
from fnsync.syncing.refs import SourceRefs
from fnsync.syncing.telling import source_status
from tests.remotes import PIPE, Remote
from tests.workbench import until

pytestmark = pytest.mark.anyio

YEAR_S = 366 * 86_400.0
COMMIT = CommitId("a" * 40)


def follower(folder: Path, **keys: Any) -> Follower:
    """One whose repository is not there, or another that `keys` names."""
    entry = {"name": "acme", "url": f"file://{folder}/nowhere", "interval": "60s", **keys}
    text = msgspec.json.encode({"sources": [entry]}).decode()
    (config,) = parse(text, {}, root=folder).sources
    return Follower(config, SyncConfig(), folder / "acme", {}, GithubTokens(), lambda event, about: None)


@asynccontextmanager
async def running(one: Follower) -> AsyncIterator[Follower]:
    """Have it follow; nothing is fetched, so that there is nothing to reconcile."""
    one.start(cast(Reconciler, None), cast(Planner, None))
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall clock that jumps years back and forth whenever somebody looks."""
    now = time.time()
    jumps = itertools.cycle((0.0, -30 * YEAR_S, 20 * YEAR_S, -1 * YEAR_S, 5 * YEAR_S))
    monkeypatch.setattr(time, "time", lambda: now + next(jumps))


@pytest.fixture
def hanging() -> Iterator[str]:
    """The URL of a host that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"git://127.0.0.1:{listener.getsockname()[1]}/acme.git"


async def test_a_clock_that_jumps_changes_no_wait(tmp_path: Path, jumping: None) -> None:
    one = follower(tmp_path)
    for failures in range(8):
        one.failures = failures
        wait = one._plan()
        assert wait is not None
        assert wait_s(60.0, failures) * (1 - JITTER) <= wait <= wait_s(60.0, failures) * (1 + JITTER)


async def test_syncs_go_on_while_the_clock_jumps(tmp_path: Path, jumping: None) -> None:
    async with running(follower(tmp_path, interval="5ms")) as one:
        await until("three syncs", lambda: one.failures >= 3)
        assert one.failing_since is not None


async def test_no_age_is_negative(tmp_path: Path) -> None:
    write(tmp_path / "acme/record.json", Record(fetched_at=time.time() + 30 * YEAR_S))
    one = follower(tmp_path)
    assert source_status(one, [])["age_s"] == 0


async def test_waits_grow_up_to_a_bound_and_a_success_resets_them(tmp_path: Path) -> None:
    one = follower(tmp_path)
    waits = []
    for failures in range(12):
        assert one.failures == failures
        wait = one._plan() or 0.0
        waits.append(wait)
        assert one.next_at is not None and abs(one.next_at - time.time() - wait) < 5
        one._failed(Conflict("not today"))
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(waits[:4]))
    assert max(waits) <= LONGEST_S * (1 + JITTER)


async def test_a_window_is_waited_for_as_the_wall_clock_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noon = 1_800_014_400.0 - 1_800_014_400 % 86_400 + 43_200
    lunch = {"deny": [{"cron": "0 12 * * *", "duration": "1h"}]}
    one = follower(tmp_path, windows=lunch, interval="10m")
    monkeypatch.setattr(time, "time", lambda: noon + 3590)
    one.hold.set(by_window(one.config.name, one.config.windows, COMMIT, time.time()))
    assert one.hold.held is not None and one._plan() == pytest.approx(10.0)
    monkeypatch.setattr(time, "time", lambda: noon - YEAR_S)
    assert (one._plan() or 0.0) <= 600 * (1 + JITTER), "it looks again, whatever the clock was"
    monkeypatch.setattr(time, "time", lambda: noon + YEAR_S)
    assert by_window(one.config.name, one.config.windows, COMMIT, time.time() + 3600) is None


async def test_a_failure_once_a_window_has_opened_is_tried_again_as_any(tmp_path: Path) -> None:
    """Nothing was fetched, so that what waited for the window still does."""
    one = follower(tmp_path)
    one.hold.set(Held("window", "it waits", "wait", COMMIT, until=time.time() - 1))
    one.failures = 3
    assert (one._plan() or 0.0) >= wait_s(60.0, 3) * (1 - JITTER)


async def test_whoever_waits_for_a_host_that_hangs_is_told_of_the_end(tmp_path: Path, hanging: str) -> None:
    async with running(follower(tmp_path, url=hanging)) as one:
        await until("a fetch that hangs", lambda: one.progress is not None)
        first = asyncio.create_task(one.sync())
        others = [asyncio.create_task(ask) for ask in (one.sync(), one.candidate(), one.where("main"))]
        await asyncio.sleep(0)
        await one.close()
        for task in (first, *others):
            with pytest.raises(Draining):
                await task
        with pytest.raises(Draining):
            await one.sync()


async def test_many_who_ask_for_one_ref_are_one_question(tmp_path: Path) -> None:
    remote = Remote(tmp_path, {"shout.py": PIPE.format("one")})
    commit = remote.head()
    keys = {"url": remote.url, "path": "functions"}
    followers = {"acme": follower(tmp_path, prefix="a_", **keys)}
    refs = SourceRefs(LocalRefs(None, "origin"), lambda name: followers[name])
    found = await asyncio.gather(*(refs.resolve("acme", "main") for _ in range(FETCHES + 5)))
    assert {where.commit for where in found} == {commit}
    assert (await refs.resolve("acme", commit)).prefix == "a_"
    await followers["acme"].close()
    followers["acme"] = follower(tmp_path, prefix="b_", **keys)
    assert (await refs.resolve("acme", commit)).prefix == "b_", "as the configuration is now"
    await followers["acme"].close()


async def test_no_two_waits_are_the_same(tmp_path: Path) -> None:
    """Many servers that were started at once do not ask one host at once for ever."""
    one = follower(tmp_path)
    assert len({round(one._plan() or 0.0, 3) for _ in range(20)}) > 10


async def test_a_hash_that_is_here_needs_no_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote(tmp_path, {"shout.py": PIPE.format("one")})
    commit = remote.head()
    one = follower(tmp_path, url=remote.url, path="functions")
    refs = SourceRefs(LocalRefs(None, "origin"), lambda name: one)
    monkeypatch.setattr("fnsync.syncing.refs.FRESH_S", 0.0)
    names = ("main", commit, commit[:8])
    for name in names:
        assert (await refs.resolve("acme", name)).commit == commit
    remote.vanish()
    for name in reversed(names):
        assert (await refs.resolve("acme", name)).commit == commit, "what was fetched before is used"
    await one.close()
