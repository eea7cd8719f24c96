"""Snapshots: what a revision's folder holds, and that nothing needed is ever removed or half there."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fnsync.errors import SourceError
from fnsync.model import FunctionId, GoodRevision, Kind, Manifest, Revision, Unit
from fnsync.source.reading import read
from fnsync.source.snapshots import Snapshots

PIPE = "class Pipe:\n    def pipe(self, body):\n        return 'a'\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "functions"
    write(folder, "f.py", PIPE + "import _x\n")
    write(folder, "_x.py", "a = 1\n")
    return folder


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "data", grace_s=0.0)


def write(root: Path, path: str, content: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def unit(root: Path, path: str = "f.py") -> Unit:
    return read(root, path).unit


def revision(found: Unit) -> Revision:
    assert found.revision is not None
    return found.revision


def good(found: Unit) -> GoodRevision:
    return GoodRevision(found.id, revision(found), found.path, found.entry, "base", Manifest(Kind.PIPE))


def held(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_snapshot_holds_the_function_and_what_it_shares(root: Path, snapshots: Snapshots) -> None:
    found = unit(root)
    assert not snapshots.has(revision(found))
    folder = snapshots.write(root, found)

    assert folder == snapshots.folder(revision(found))
    assert held(folder) == {"function/main.py": PIPE + "import _x\n", "shared/_x.py": "a = 1\n"}
    assert snapshots.has(revision(found)) and snapshots.verify(revision(found))


def test_a_snapshot_stays_as_it_is_when_the_files_change(root: Path, snapshots: Snapshots) -> None:
    folder = snapshots.write(root, unit(root))
    write(root, "_x.py", "a = 2\n")
    other = snapshots.write(root, unit(root))

    assert held(folder)["shared/_x.py"] == "a = 1\n"
    assert held(other)["shared/_x.py"] == "a = 2\n"


def test_equal_files_are_kept_once_and_read_only(root: Path, snapshots: Snapshots) -> None:
    write(root, "g.py", PIPE + "import _x\n# other\n")
    first = snapshots.write(root, unit(root)) / "shared/_x.py"
    second = snapshots.write(root, unit(root, "g.py")) / "shared/_x.py"

    assert first.samefile(second)
    assert first.stat().st_mode & 0o777 == 0o444


def test_a_file_that_changed_after_it_was_read_is_not_taken(root: Path, snapshots: Snapshots) -> None:
    found = unit(root)
    write(root, "f.py", PIPE)
    with pytest.raises(SourceError) as caught:
        snapshots.write(root, found)
    assert caught.value.problem.code == "changed_meanwhile"
    assert not snapshots.has(revision(found))

    (root / "f.py").unlink()
    with pytest.raises(SourceError) as caught:
        snapshots.write(root, found)
    assert caught.value.problem.code == "changed_meanwhile"


def test_writing_again_changes_nothing_and_renews_the_grace(root: Path, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "data", grace_s=60.0)
    found = unit(root)
    folder = snapshots.write(root, found)
    inode = folder.stat().st_ino
    os.utime(folder, (0, 0))
    write(root, "f.py", PIPE)

    assert snapshots.write(root, found) == folder
    assert folder.stat().st_ino == inode
    assert snapshots.collect(()) == 0
    assert snapshots.has(revision(found))


@pytest.mark.parametrize("place", ["function/main.py", "shared/_x.py"])
def test_a_damaged_snapshot_is_made_again(
    root: Path, tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Snapshots(tmp_path / "data").write(root, unit(root))
    whole = held(folder)
    (folder / place).chmod(0o644)
    (folder / place).write_text("")  # as after a power failure; the object is the same file
    later = Snapshots(tmp_path / "data")

    assert not later.verify(revision(unit(root)))
    with caplog.at_level(logging.WARNING):
        later.write(root, unit(root))
    assert held(folder) == whole
    assert later.verify(revision(unit(root)))
    assert "damaged" in caplog.text


def test_pythons_cache_in_a_snapshot_is_no_damage(root: Path, tmp_path: Path) -> None:
    folder = Snapshots(tmp_path / "data").write(root, unit(root))
    write(folder, "function/__pycache__/main.pyc", "x")

    assert Snapshots(tmp_path / "data").verify(revision(unit(root)))


def test_collecting_removes_what_nobody_needs(root: Path, snapshots: Snapshots) -> None:
    found = []
    for number in range(4):
        write(root, "f.py", PIPE + f"# {number}\n")
        found.append(unit(root))
        snapshots.write(root, found[-1])
    snapshots.record_good(good(found[1]))

    assert snapshots.collect({revision(found[2])}) == 2
    assert [snapshots.has(revision(one)) for one in found] == [False, True, True, False]
    objects = [path for path in snapshots._objects.rglob("*") if path.is_file()]
    assert len(objects) == 2
    assert snapshots.collect({revision(found[2])}) == 0

    snapshots.forget(FunctionId("f"))
    assert snapshots.collect(()) == 2
    assert not [path for path in snapshots._snapshots.rglob("*") if path.is_file()]


def test_young_snapshots_are_not_collected(root: Path, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "data")
    snapshots.write(root, unit(root))

    assert snapshots.collect(()) == 0
    assert snapshots.has(revision(unit(root)))


def test_the_last_good_revision_is_remembered(root: Path, tmp_path: Path, snapshots: Snapshots) -> None:
    found = unit(root)
    snapshots.write(root, found)
    record = good(found)
    snapshots.record_good(record)
    later = Snapshots(tmp_path / "data")

    assert later.good(FunctionId("f")) == record
    assert later.goods() == {"f": record}
    assert later.good(FunctionId("g")) is None
    later.forget(FunctionId("f"))
    later.forget(FunctionId("f"))
    assert later.goods() == {}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"id": "other"}'])
def test_a_record_that_cannot_be_read_harms_no_other_and_keeps_all_snapshots(
    root: Path, snapshots: Snapshots, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write(root, "g.py", PIPE)
    for path in ("f.py", "g.py"):
        snapshots.write(root, unit(root, path))
        snapshots.record_good(good(unit(root, path)))
    (snapshots._live / "f.json").write_bytes(content)

    with caplog.at_level(logging.WARNING):
        assert list(snapshots.goods()) == ["g"]
        assert snapshots.collect(()) == 0
    assert "last good revision of f" in caplog.text
    assert snapshots.has(revision(unit(root)))


def test_leftovers_of_a_crash_are_no_snapshots_and_are_removed(root: Path, snapshots: Snapshots) -> None:
    folder = snapshots.write(root, unit(root))
    snapshots.record_good(good(unit(root)))
    write(folder.parent, ".tmp-1/function/main.py", "half")
    write(next(snapshots._objects.iterdir()), ".tmp-2", "half")
    write(snapshots._live, ".tmp-3", "half")

    assert list(snapshots.goods()) == ["f"]
    snapshots.collect(())
    assert not list(snapshots._snapshots.parent.rglob(".tmp-*"))
    assert snapshots.has(revision(unit(root)))


def test_a_writer_killed_at_any_moment_leaves_whole_snapshots_or_none(root: Path, tmp_path: Path) -> None:
    program = (
        "import itertools, pathlib, sys\n"
        "from fnsync.source.reading import read\n"
        "from fnsync.source.snapshots import Snapshots\n"
        "root, data = map(pathlib.Path, sys.argv[1:])\n"
        "print('ready', flush=True)\n"
        "for n in itertools.count():\n"
        "    (root / 'f.py').write_text(f'import _x\\nclass Pipe: n = {n}\\n')\n"
        "    Snapshots(data).write(root, read(root, 'f.py').unit)\n"
    )
    for round_ in range(5):
        arguments = [sys.executable, "-c", program, str(root), str(tmp_path / "data")]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.03 + 0.013 * round_)
            process.send_signal(signal.SIGKILL)

    snapshots = Snapshots(tmp_path / "data", grace_s=0.0)
    revisions = [Revision(path.name) for path in snapshots._snapshots.glob("??/*") if not path.name.startswith(".")]
    assert revisions
    assert all(snapshots.verify(one) for one in revisions)
    assert snapshots.collect(()) == len(revisions)
    assert not [path for path in snapshots._snapshots.rglob("*") if path.is_file()]


def test_many_writers_and_a_collector_at_once(root: Path, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "data", grace_s=5.0)
    for number in range(20):
        write(root, f"f{number}.py", PIPE + f"import _x\n# {number % 10}\n")
    units = [unit(root, f"f{number}.py") for number in range(20)]
    for one in units:
        snapshots.write(root, one)
    failures: list[Exception] = []
    collected: list[int] = []
    stop = threading.Event()

    def work(own: list[Unit]) -> None:
        try:
            while len(collected) < 5 and not failures:
                for one in own:
                    snapshots.write(root, one)
        except Exception as exc:  # told below
            failures.append(exc)

    def collect() -> None:
        try:
            while not stop.is_set():
                # Old enough to go, all of it, at any moment.
                for path in (*snapshots._snapshots.glob("??/[0-9a-f]*"), *snapshots._objects.glob("*/[0-9a-f]*")):
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(path, (0, 0))
                collected.append(snapshots.collect(()))
        except Exception as exc:  # told below
            failures.append(exc)

    writers = [threading.Thread(target=work, args=(units[start::4],)) for start in range(4)]
    collector = threading.Thread(target=collect)
    for thread in (*writers, collector):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    collector.join()

    assert failures == []
    assert sum(collected) > 0
    for one in units:
        snapshots.write(root, one)
        assert Snapshots(tmp_path / "data").verify(revision(one))
