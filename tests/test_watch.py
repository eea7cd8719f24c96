"""The watcher: what is reported and when, that nothing is lost, and what happens where inotify does not work."""

import asyncio
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fnsync.watch import HOLD_S, MOST_S, QUIET_S, Debounce, Watcher

PATIENCE_S = 10.0


def no() -> bool:
    return False


def whole(*paths: str, everything: bool = False) -> tuple[frozenset[str], bool]:
    return frozenset(paths), everything


# ---- when a batch is whole ---------------------------------------------------------------------------------


def test_a_batch_is_whole_after_a_quiet_moment() -> None:
    debounce = Debounce()
    assert debounce.due() is None and debounce.take(0.0, no) is None
    debounce.add("a", 1.0)
    debounce.add("b", 1.004)
    assert debounce.due() == 1.004 + QUIET_S
    assert debounce.take(1.008, no) is None
    assert debounce.take(1.0091, no) == whole("a", "b")
    assert debounce.due() is None


def test_changes_without_an_end_are_handed_over_all_the_same() -> None:
    debounce = Debounce()
    for step in range(100):
        debounce.add(f"{step}", 1.0 + step * 0.004)
        if batch := debounce.take(1.0 + step * 0.004, no):
            break
    assert batch is not None and 1.0 + step * 0.004 == pytest.approx(1.0 + MOST_S)
    assert len(batch[0]) == step + 1


def test_a_file_that_is_being_written_is_waited_for() -> None:
    debounce = Debounce()
    debounce.begin("a", 1.0)
    debounce.add("b", 1.0)
    assert debounce.take(1.01, no) == whole("b")
    debounce.add("a", 1.1)
    assert debounce.take(1.106, no) == whole("a")
    assert debounce.due() is None


def test_a_file_that_stays_open_is_handed_over_in_the_end() -> None:
    debounce = Debounce()
    debounce.begin("a", 1.0)
    debounce.begin("a", 1.1)
    assert debounce.due() == 1.0 + MOST_S
    assert debounce.take(1.1, no) is None
    assert debounce.take(1.0 + MOST_S, no) == whole("a")


def test_nothing_is_handed_over_while_git_is_at_work() -> None:
    debounce = Debounce()
    debounce.add("a", 1.0)
    assert debounce.take(5.0, lambda: True) is None and debounce.held
    debounce.add("b", 5.1)
    assert debounce.take(5.2, no) == whole("a", "b") and not debounce.held


def test_a_lock_that_was_left_behind_holds_for_some_seconds_only() -> None:
    debounce = Debounce()
    debounce.add("a", 1.0)
    assert debounce.take(1.0 + HOLD_S - 0.1, lambda: True) is None
    assert debounce.take(1.0 + HOLD_S, lambda: True) == whole("a")


def test_lost_events_are_told_beside_the_paths() -> None:
    debounce = Debounce()
    debounce.add("a", 1.0)
    debounce.lose(1.0)
    assert debounce.take(1.1, no) == whole("a", everything=True)
    debounce.lose(2.0)
    assert debounce.take(2.1, no) == whole(everything=True)


# ---- a folder on disk --------------------------------------------------------------------------------------


class Reader:
    """Collects what a watcher hands over."""

    def __init__(self, watcher: Watcher, root: Path) -> None:
        self.watcher, self.root = watcher, root
        self.batches: list[frozenset[str] | None] = []
        self._news = asyncio.Event()

    async def read(self) -> None:
        async for batch in self.watcher.changes():
            self.batches.append(batch)
            self._news.set()

    @property
    def paths(self) -> set[str]:
        return {path for batch in self.batches if batch is not None for path in batch}

    async def until(self, true: Callable[[], bool], what: str) -> None:
        async def wait() -> None:
            while not true():
                self._news.clear()
                try:
                    await asyncio.wait_for(self._news.wait(), 0.05)
                except TimeoutError:
                    continue

        try:
            await asyncio.wait_for(wait(), PATIENCE_S)
        except TimeoutError:
            pytest.fail(f"{what} was not noticed; what was: {self.batches}")

    async def sees(self, *paths: str) -> None:
        """Wait until all these were reported, then forget everything."""
        await self.until(lambda: self.paths >= set(paths), f"a change of {paths}")
        await self.settle()

    async def settle(self) -> None:
        """Let stragglers in, and forget what came."""
        await asyncio.sleep(0.05)
        self.batches.clear()

    def covers(self, path: str) -> bool:
        """Whether who re-scans what was reported comes by this path."""
        steps = path.split("/")
        return None in self.batches or any("/".join(steps[:n]) in self.paths for n in range(1, len(steps) + 1))


@asynccontextmanager
async def watching(root: Path, **options: Any) -> AsyncIterator[Reader]:
    given: dict[str, Any] = {"locked": no, "rescan_s": 600.0} | options
    watcher = Watcher(root, **given)
    reader = Reader(watcher, root)
    task = asyncio.create_task(reader.read())
    try:
        await asyncio.sleep(0)
        yield reader
    finally:
        watcher.close()
        await asyncio.wait_for(task, PATIENCE_S)


def run(test: Callable[[Reader], Awaitable[None]], root: Path, **options: Any) -> None:
    async def main() -> None:
        async with watching(root, **options) as reader:
            assert reader.watcher.mode == "inotify", reader.watcher.problem
            await test(reader)

    asyncio.run(main())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "functions"
    folder.mkdir()
    (folder / "old.py").write_text("1")
    (folder / "sub").mkdir()
    (folder / "sub" / "main.py").write_text("1")
    return folder


def atomic_save(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def test_saves_are_reported_at_once(root: Path) -> None:
    async def test(reader: Reader) -> None:
        for save in (atomic_save, lambda path, text: path.write_text(text)):
            for path in ("old.py", "sub/main.py", "new.py"):
                save(root / path, "2")
                began = time.monotonic()
                await reader.until(lambda path=path: path in reader.paths, path)  # type: ignore[misc]
                # Held back for a tenth of this by design; half a second is what a lost pairing of a rename would take.
                assert time.monotonic() - began < 0.3
                await reader.settle()

    run(test, root)


def test_files_that_go_are_reported_at_once(root: Path, tmp_path: Path) -> None:
    async def test(reader: Reader) -> None:
        began = time.monotonic()
        (root / "old.py").rename(tmp_path / "away.py")
        await reader.until(lambda: "old.py" in reader.paths, "a file moved away")
        (root / "sub" / "main.py").unlink()
        await reader.until(lambda: "sub/main.py" in reader.paths, "a deleted file")
        assert time.monotonic() - began < 0.4

    run(test, root)


def test_a_rename_reports_both_names(root: Path) -> None:
    async def test(reader: Reader) -> None:
        (root / "old.py").rename(root / "sub" / "new name\nü.py")
        await reader.sees("old.py", "sub/new name\nü.py")

    run(test, root)


def test_what_changes_nothing_is_not_reported(root: Path) -> None:
    def ignore(path: str) -> bool:
        return path.rsplit("/", 1)[-1] in ("__pycache__", ".git") or path.endswith(".tmp")

    async def test(reader: Reader) -> None:
        (root / "old.py").read_text()
        with (root / "old.py").open("r+"):
            pass  # opened for writing, and nothing written: cannot be told from a save
        await reader.settle()
        (root / "old.py").read_bytes()
        os.utime(root / "old.py")
        (root / "old.py").chmod(0o600)
        list(root.iterdir())
        (root / "__pycache__").mkdir()
        (root / "__pycache__" / "old.pyc").write_text("x")
        (root / "sub" / ".git").mkdir()
        (root / "sub" / ".git" / "index").write_text("x")
        (root / "x.tmp").write_text("x")
        await asyncio.sleep(0.3)
        assert reader.batches == []
        (root / "old.py").write_text("2")
        await reader.until(lambda: reader.batches == [frozenset({"old.py"})], "a change after much noise")

    run(test, root, ignore=ignore)


def test_links_are_reported_without_waiting_for_a_write(root: Path) -> None:
    async def test(reader: Reader) -> None:
        (root / "soft.py").symlink_to("old.py")
        (root / "hard.py").hardlink_to(root / "old.py")
        began = time.monotonic()
        await reader.sees("soft.py", "hard.py")
        assert time.monotonic() - began < MOST_S

    run(test, root)


def test_a_file_that_stays_open_is_reported_while_it_grows(root: Path) -> None:
    async def test(reader: Reader) -> None:
        with (root / "old.py").open("a") as file:
            file.write("more")
            file.flush()
            await reader.sees("old.py")

    run(test, root)


def test_folders_are_reported_by_their_path(root: Path, tmp_path: Path) -> None:
    async def test(reader: Reader) -> None:
        (root / "made").mkdir()
        await reader.sees("made")
        (root / "made" / "main.py").write_text("1")
        await reader.sees("made/main.py")
        (root / "made").rename(root / "renamed")
        await reader.sees("made", "renamed")
        (root / "renamed" / "main.py").write_text("2")
        await reader.sees("renamed/main.py")
        (root / "renamed").rename(tmp_path / "away")
        await reader.sees("renamed")
        (tmp_path / "away" / "main.py").write_text("3")
        await asyncio.sleep(0.05)
        assert reader.batches == [], "a folder that was moved away is not watched any more"
        (tmp_path / "away").rename(root / "back")
        await reader.sees("back")
        (root / "back" / "main.py").write_text("4")
        await reader.sees("back/main.py")
        shutil.rmtree(root / "back")
        await reader.sees("back")

    run(test, root)


def test_a_folder_renamed_with_what_is_in_it_stays_watched(root: Path) -> None:
    async def test(reader: Reader) -> None:
        (root / "a" / "b" / "c").mkdir(parents=True)
        (root / "ab").mkdir()
        await reader.settle()
        for turn in range(5):
            old, new = ("a", "z") if turn % 2 == 0 else ("z", "a")
            (root / old).rename(root / new)
            (root / new / "b" / "c" / "x.py").write_text(str(turn))
            await reader.until(lambda new=new: reader.covers(f"{new}/b/c/x.py"), new)  # type: ignore[misc]
            await reader.settle()
            (root / new / "b" / "c" / "x.py").write_text(str(turn) * 2)
            await reader.sees(f"{new}/b/c/x.py")
        (root / "ab" / "x.py").write_text("1")
        await reader.sees("ab/x.py")

    run(test, root)


def test_a_thousand_new_files_in_new_folders_lose_nothing(root: Path) -> None:
    names = [f"group{n % 10}/team{n % 7}/f{n}.py" for n in range(1000)]

    def fill() -> None:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("1")

    async def test(reader: Reader) -> None:
        await asyncio.to_thread(fill)
        await reader.until(lambda: all(map(reader.covers, names)), "one of a thousand files")
        await reader.settle()
        (root / names[-1]).write_text("2")
        await reader.sees(names[-1])

    run(test, root)


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_what_git_changes_is_handed_over_whole(root: Path) -> None:
    project = root.parent
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "few")
    git(project, "checkout", "-q", "-b", "many")
    names = [f"f{n}.py" for n in range(1000)] + ["deep/er/main.py"]
    (root / "deep" / "er").mkdir(parents=True)
    for name in names:
        (root / name).write_text("1")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "many")
    git(project, "checkout", "-q", "main")

    async def test(reader: Reader) -> None:
        for command in (("checkout", "-q", "many"), ("checkout", "-q", "main")):
            await asyncio.to_thread(git, project, *command)
            await reader.until(lambda: all(map(reader.covers, names)), command[-1])
            assert len(reader.batches) <= 3, "files came one by one while git was at work"
            await reader.settle()
        (root / "old.py").write_text("changed")
        (root / "untracked.py").write_text("new")
        await reader.sees("old.py", "untracked.py")
        await asyncio.to_thread(git, project, "stash", "-u")
        await reader.sees("old.py", "untracked.py")

    run(test, root, locked=lambda: (project / ".git" / "index.lock").exists())


def test_the_folder_may_be_deleted_and_made_again(root: Path) -> None:
    async def test(reader: Reader) -> None:
        shutil.rmtree(root)
        await reader.until(lambda: None in reader.batches, "the folder's end")
        await reader.until(lambda: reader.watcher.problem is not None, "the missing folder")
        assert reader.watcher.mode == "polling" and str(root) in str(reader.watcher.problem)
        await reader.settle()
        root.mkdir()
        (root / "a.py").write_text("1")
        await reader.until(lambda: reader.watcher.mode == "inotify", "the folder's return")
        await reader.until(lambda: None in reader.batches, "what the new folder holds")
        assert reader.watcher.problem is None
        await reader.settle()
        (root / "a.py").write_text("2")
        await reader.sees("a.py")

    run(test, root, poll_s=0.1)


def test_the_folder_may_be_replaced_by_another(root: Path, tmp_path: Path) -> None:
    async def test(reader: Reader) -> None:
        (tmp_path / "other" / "deep").mkdir(parents=True)
        root.rename(tmp_path / "old")
        (tmp_path / "other").rename(root)
        await reader.until(lambda: None in reader.batches, "the exchange")
        await reader.settle()
        (root / "deep" / "a.py").write_text("1")
        await reader.sees("deep/a.py")

    run(test, root)


def test_a_linked_folder_is_followed_also_to_another_place(root: Path, tmp_path: Path) -> None:
    link, other = tmp_path / "link", tmp_path / "other"
    other.mkdir()
    link.symlink_to(root)

    async def test(reader: Reader) -> None:
        (root / "old.py").write_text("2")
        await reader.sees("old.py")
        (tmp_path / "fresh").symlink_to(other)
        (tmp_path / "fresh").replace(link)
        await reader.until(lambda: None in reader.batches, "the link's new place")
        await reader.settle()
        (other / "x.py").write_text("1")
        await reader.until(lambda: reader.covers("x.py"), "x.py")

    run(test, link, rescan_s=0.2)


def test_ticks_tell_to_look_at_everything(root: Path) -> None:
    async def test(reader: Reader) -> None:
        await reader.until(lambda: reader.batches[:2] == [None, None], "a tick")

    run(test, root, rescan_s=0.05)


def test_batches_that_come_while_the_reader_is_busy_are_joined(root: Path) -> None:
    async def main() -> None:
        watcher = Watcher(root, locked=no, rescan_s=600.0)
        changes = watcher.changes()
        for n in range(5):
            (root / f"{n}.py").write_text("1")
            await asyncio.sleep(0.02)
        first = await anext(changes)
        assert first == frozenset(f"{n}.py" for n in range(5)), "what happened before the first look is not lost"
        watcher.close()
        assert [batch async for batch in changes] == []

    asyncio.run(main())


def test_a_flood_that_overflows_the_queue_is_healed(root: Path) -> None:
    release = threading.Event()

    def ignore(path: str) -> bool:
        if path == "block":
            release.wait(PATIENCE_S)
        return False

    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the queue of inotify events is too long to fill here")

    async def test(reader: Reader) -> None:
        (root / "block").touch()
        await asyncio.to_thread(flood)
        (root / "late").mkdir()
        release.set()
        await reader.until(lambda: None in reader.batches, "the overflow")
        await reader.settle()
        (root / "late" / "main.py").write_text("1")
        await reader.until(lambda: reader.covers("late/main.py"), "late/main.py")

    def flood() -> None:
        with (root / "x.py").open("wb", 0) as x, (root / "y.py").open("wb", 0) as y:
            for _ in range(limit):  # in turn, since inotify joins equal events
                x.write(b"x")
                y.write(b"y")

    run(test, root, ignore=ignore)


def test_a_failure_in_ignore_does_not_end_the_watch(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    failures = iter([ValueError("odd")])

    def ignore(path: str) -> bool:
        if path == "odd.py" and (failure := next(failures, None)):
            raise failure
        return False

    async def test(reader: Reader) -> None:
        (root / "odd.py").write_text("1")
        await reader.until(lambda: None in reader.batches, "odd.py")
        await reader.settle()
        (root / "odd.py").write_text("2")
        await reader.sees("odd.py")

    run(test, root, ignore=ignore)
    assert "odd" in caplog.text


WITHOUT_DESCRIPTORS = """
import asyncio, os, resource, sys
from pathlib import Path
from fnsync.watch import Watcher

async def main(root):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = os.open(os.devnull, os.O_RDONLY)
    import watchdog.observers.inotify_c
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    watcher = Watcher(root, locked=lambda: False, rescan_s=600, poll_s=0.05, retry_s=0.2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(watcher.mode, watcher.problem, flush=True)
    changes = watcher.changes()
    assert await anext(changes) is None
    while watcher.mode == "polling":
        await anext(changes)
    print(watcher.mode, watcher.problem)
    while True:
        (root / "old.py").write_text("2")
        if await anext(changes) == {"old.py"}:
            break
    watcher.close()

asyncio.run(asyncio.wait_for(main(Path(sys.argv[1])), 20))
"""


def test_without_descriptors_it_polls_and_tries_again_later(root: Path) -> None:
    line = [sys.executable, "-W", "error", "-c", WITHOUT_DESCRIPTORS, str(root)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    first, second = done.stdout.splitlines() or (done.stderr, "")
    assert first.startswith("polling the limit of inotify instances") and "max_user_instances" in first, done.stderr
    assert (second, done.returncode) == ("inotify None", 0), done.stderr


WITHOUT_WATCHES = """
import sys
from pathlib import Path
from fnsync.watch import Watcher

Path("/proc/sys/user/max_inotify_watches").write_text("3")
root = Path(sys.argv[1])
watcher = Watcher(root, locked=lambda: False)
print(watcher.mode, watcher.problem)
for n in range(5):
    (root / f"d{n}").mkdir()
import time
end = time.monotonic() + 10
while watcher.mode == "inotify" and time.monotonic() < end:
    time.sleep(0.01)
print(watcher.mode, watcher.problem)
watcher.close()
"""


def test_without_watches_for_a_new_folder_it_polls(root: Path) -> None:
    # A user namespace has limits of its own.
    line = ["unshare", "--user", "--map-root-user", sys.executable, "-c", WITHOUT_WATCHES, str(root)]
    if shutil.which("unshare") is None or subprocess.run([*line[:3], "true"], check=False).returncode:
        pytest.skip("user namespaces cannot be made here")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if "max_inotify_watches" in done.stderr:
        pytest.skip("the limit cannot be set here")
    first, second = done.stdout.splitlines() or (done.stderr, "")
    assert first == "inotify None"
    assert second.startswith("polling the limit of inotify watches") and "max_user_watches" in second


def test_a_missing_folder_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with watching(tmp_path / "none", poll_s=0.05) as reader:
            assert reader.watcher.mode == "polling" and "not there" in str(reader.watcher.problem)
            (tmp_path / "none").mkdir()
            await reader.until(lambda: reader.watcher.mode == "inotify", "the folder")

    asyncio.run(main())


def test_closing_leaves_no_thread_and_no_descriptor(root: Path) -> None:
    def open_now() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    async def test(reader: Reader) -> None:
        (root / "old.py").write_text("2")
        await reader.sees("old.py")

    run(test, root)  # what is loaded once is loaded now
    before = open_now()
    for _ in range(5):
        run(test, root)
        watcher = Watcher(root, locked=no)
        watcher.close()
        watcher.close()
    Watcher(root / "none", locked=no).close()
    assert open_now() == before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > before[0]
