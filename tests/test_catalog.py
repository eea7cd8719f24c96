"""The catalog: after any change it knows what one built from nothing knows, at a cost that follows the change."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fnsync.model import FunctionId, Problem, Unit
from fnsync.source import discovery
from fnsync.source import files as source_files
from fnsync.source.catalog import Catalog, Changes

PIPE = "class Pipe:\n    def pipe(self, body):\n        return 'a'\n"


def write(root: Path, path: str, content: str = PIPE) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def settle(root: Path) -> None:
    """Wait until stamps of what was just written can be trusted."""
    newest = max((path.stat().st_ctime_ns for path in root.rglob("*")), default=0)
    while time.time_ns() - newest < source_files.RACY_NS + 5_000_000:
        time.sleep(0.005)


def fresh(root: Path) -> Catalog:
    catalog = Catalog(root)
    catalog.refresh(None)
    return catalog


def known(catalog: Catalog) -> tuple[dict[str, Unit], tuple[Problem, ...]]:
    return {path: replace(unit, stamps={}) for path, unit in catalog.units.items()}, catalog.refused


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Note what is opened and listed meanwhile."""
    seen: list[str] = []
    with monkeypatch.context() as patch:
        for name in ("open", "scandir"):
            real: Callable[..., object] = getattr(os, name)

            def note(path: str, *rest: object, real: Callable[..., object] = real, **named: object) -> object:
                seen.append(str(path))
                return real(path, *rest, **named)

            patch.setattr(os, name, note)
        yield seen


def test_the_first_look_reads_everything(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    write(tmp_path, "team/b.py")
    write(tmp_path, "my-tool.py")
    catalog = Catalog(tmp_path)
    changes = catalog.refresh(None)

    assert set(changes.read) == set(catalog.units) == {"a.py", "team/b.py"}
    assert changes.ids == catalog.ids() == {"a", "b"}
    assert [problem.path for problem in changes.refused] == ["my-tool.py"]
    assert changes.read["a.py"].text == PIPE


def test_an_edit_reads_one_function(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    write(tmp_path, "b.py")
    catalog = fresh(tmp_path)
    before = catalog.units["a.py"].revision
    write(tmp_path, "a.py", PIPE + "# more\n")
    changes = catalog.refresh({"a.py"})

    assert set(changes.read) == {"a.py"}
    assert changes.ids == {"a"}
    assert catalog.units["a.py"].revision != before


def test_a_touched_file_is_read_and_nothing_follows(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    catalog = fresh(tmp_path)
    os.utime(tmp_path / "a.py", (1, 1))
    changes = catalog.refresh(None)

    assert set(changes.read) == {"a.py"}
    assert changes.ids == frozenset()


def test_two_files_may_claim_an_id(tmp_path: Path) -> None:
    write(tmp_path, "z/a.py")
    write(tmp_path, "A.py")
    write(tmp_path, "a/main.py")
    catalog = fresh(tmp_path)
    assert [unit.path for unit in catalog.claims(FunctionId("a"))] == ["A.py", "a/main.py", "z/a.py"]

    (tmp_path / "A.py").unlink()
    changes = catalog.refresh({"A.py"})
    assert changes.removed == {"A.py"}
    assert changes.ids == {"a"}
    assert [unit.path for unit in catalog.claims(FunctionId("a"))] == ["a/main.py", "z/a.py"]
    assert catalog.claims(FunctionId("b")) == ()


def test_a_shared_module_concerns_those_that_import_it(tmp_path: Path) -> None:
    write(tmp_path, "a.py", PIPE + "import _x\n")
    write(tmp_path, "b.py", PIPE + "import _y\n")
    write(tmp_path, "_y.py", "import _x\n")
    write(tmp_path, "c.py")
    catalog = fresh(tmp_path)

    write(tmp_path, "_x.py", "a = 1\n")  # nobody found it before
    assert catalog.refresh({"_x.py"}).ids == {"a", "b"}
    write(tmp_path, "_x.py", "a = 2\n")
    assert catalog.refresh({"_x.py"}).ids == {"a", "b"}
    write(tmp_path, "_y.py", "\n")
    assert catalog.refresh({"_y.py"}).ids == {"b"}
    write(tmp_path, "_x/__init__.py", "a = 3\n")  # a package goes before a module
    assert catalog.refresh({"_x"}).ids == {"a"}
    write(tmp_path, "_x/more.py", "a = 3\n")
    assert catalog.refresh({"_x/more.py"}).ids == {"a"}
    shutil.rmtree(tmp_path / "_x")
    (tmp_path / "_x.py").unlink()
    assert catalog.refresh({"_x", "_x.py"}).ids == {"a"}
    assert known(catalog) == known(fresh(tmp_path))


def test_a_nearer_shared_module_takes_over(tmp_path: Path) -> None:
    write(tmp_path, "team/a.py", PIPE + "import _x\n")
    write(tmp_path, "_x.py", "a = 1\n")
    catalog = fresh(tmp_path)
    write(tmp_path, "team/_x.py", "a = 1\n")

    assert set(catalog.refresh({"team/_x.py"}).read) == {"team/a.py"}
    assert catalog.units["team/a.py"].stamps["team/_x.py"] is not None


def test_settings_concern_their_function(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    write(tmp_path, "b.py")
    catalog = fresh(tmp_path)
    revision = catalog.units["a.py"].revision

    write(tmp_path, "a.yaml", "active: false\n")
    assert catalog.refresh({"a.yaml"}).ids == {"a"}
    assert catalog.units["a.py"].settings.active is False
    assert catalog.units["a.py"].revision == revision
    (tmp_path / "a.yaml").unlink()
    assert catalog.refresh({"a.yaml"}).ids == {"a"}
    assert catalog.units["a.py"].settings.active is None


def test_a_main_file_makes_a_folder_a_function_and_back(tmp_path: Path) -> None:
    write(tmp_path, "team/a.py")
    write(tmp_path, "team/deep/b.py")
    catalog = fresh(tmp_path)
    write(tmp_path, "team/main.py")
    changes = catalog.refresh({"team/main.py"})

    assert set(catalog.units) == {"team/main.py"}
    assert changes.removed == {"team/a.py", "team/deep/b.py"}
    assert changes.ids == {"team", "a", "b"}
    assert len(catalog.units["team/main.py"].parts) == 3

    (tmp_path / "team/main.py").unlink()
    changes = catalog.refresh({"team/main.py"})
    assert set(catalog.units) == set(changes.read) == {"team/a.py", "team/deep/b.py"}
    assert changes.ids == {"team", "a", "b"}


def test_helpers_and_assets_concern_their_function(tmp_path: Path) -> None:
    write(tmp_path, "f/main.py")
    write(tmp_path, "g.py")
    catalog = fresh(tmp_path)
    write(tmp_path, "f/data/table.csv", "1\n")

    assert catalog.refresh({"f/data"}).ids == {"f"}
    assert catalog.refresh({"f/data/none.csv"}).ids == frozenset()


def test_a_renamed_folder(tmp_path: Path) -> None:
    write(tmp_path, "old/a.py")
    write(tmp_path, "old/f/main.py")
    catalog = fresh(tmp_path)
    (tmp_path / "old").rename(tmp_path / "new")
    changes = catalog.refresh({"old", "new"})

    assert set(catalog.units) == {"new/a.py", "new/f/main.py"}
    assert changes.removed == {"old/a.py", "old/f/main.py"}


def test_an_ignore_file_hides_and_shows(tmp_path: Path) -> None:
    write(tmp_path, "team/a.py")
    write(tmp_path, "b.py")
    catalog = fresh(tmp_path)
    write(tmp_path, "team/.fnsyncignore", "a.py\n")
    assert catalog.refresh({"team/.fnsyncignore"}).removed == {"team/a.py"}
    (tmp_path / "team/.fnsyncignore").unlink()
    assert set(catalog.refresh({"team/.fnsyncignore"}).read) == {"team/a.py"}
    write(tmp_path, ".fnsyncignore", "*.py\n")
    assert catalog.refresh({".fnsyncignore"}).removed == {"team/a.py", "b.py"}


def test_an_edit_reaches_functions_through_links(tmp_path: Path) -> None:
    write(tmp_path, "team/a.py")
    (tmp_path / "b.py").symlink_to("team/a.py")
    (tmp_path / "alias").symlink_to("team")
    catalog = fresh(tmp_path)
    write(tmp_path, "team/a.py", PIPE + "# more\n")

    assert set(catalog.refresh({"team/a.py"}).read) == {"team/a.py", "b.py", "alias/a.py"}
    shutil.rmtree(tmp_path / "team")
    catalog.refresh({"team"})
    assert known(catalog) == known(fresh(tmp_path))
    write(tmp_path, "team/a.py")
    catalog.refresh({"team"})
    assert known(catalog) == known(fresh(tmp_path))


@pytest.mark.parametrize("path", ["a.py~", ".git/index", "__pycache__/a.pyc", "nothing", "f/.x/y", "/", "..//"])
def test_noise_and_oddities_change_nothing(tmp_path: Path, path: str) -> None:
    write(tmp_path, "a.py")
    write(tmp_path, "f/main.py")
    settle(tmp_path)
    catalog = fresh(tmp_path)
    changes = catalog.refresh({path})

    assert (dict(changes.read), changes.removed, changes.ids) == ({}, frozenset(), frozenset())


def test_an_edit_in_the_same_tick_is_seen(tmp_path: Path) -> None:
    write(tmp_path, "a.py", PIPE + "# 1\n")
    catalog = fresh(tmp_path)
    before = (tmp_path / "a.py").stat()
    stale = catalog.units["a.py"].stamps["a.py"]
    assert stale is not None and not stale.trusted
    write(tmp_path, "a.py", PIPE + "# 2\n")
    os.utime(tmp_path / "a.py", ns=(before.st_atime_ns, before.st_mtime_ns))

    assert catalog.refresh(None).ids == {"a"}


def test_a_warm_start_reads_no_unchanged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.py", PIPE + "import _x, _none\n")
    write(tmp_path, "_x/m.py", "x = 1\n")
    write(tmp_path, "_unused.py", "x = 1\n")
    write(tmp_path, "README.md", "x\n")
    write(tmp_path, "f/main.py")
    write(tmp_path, "f/helper.py")
    write(tmp_path, "f/main.yaml", "active: false\n")
    write(tmp_path, "bad-name.py")
    settle(tmp_path)
    before = fresh(tmp_path)
    catalog = Catalog(tmp_path)
    catalog.restore(before.units.values())

    with opened(monkeypatch) as seen:
        changes = catalog.refresh(None)
    assert not [path for path in seen if not Path(path).is_dir()]
    assert (dict(changes.read), changes.removed, changes.ids) == ({}, frozenset(), frozenset())
    assert known(catalog) == known(before)


def test_a_warm_start_sees_what_happened_meanwhile(tmp_path: Path) -> None:
    for path in ("gone.py", "edited.py", "same.py", "team/a.py"):
        write(tmp_path, path, PIPE + "import _x\n" if path == "same.py" else PIPE)
    settle(tmp_path)
    before = fresh(tmp_path)
    (tmp_path / "gone.py").unlink()
    write(tmp_path, "edited.py", PIPE + "# more\n")
    write(tmp_path, "new.py")
    write(tmp_path, "_x.py")
    write(tmp_path, "team/main.py")
    catalog = Catalog(tmp_path)
    catalog.restore(before.units.values())
    changes = catalog.refresh(None)

    assert set(changes.read) == {"edited.py", "new.py", "same.py", "team/main.py"}
    assert changes.removed == {"gone.py", "team/a.py"}
    assert known(catalog) == known(fresh(tmp_path))


def test_one_change_among_a_thousand_touches_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        write(tmp_path, f"team{number % 10}/f{number}.py")
    settle(tmp_path)
    catalog = fresh(tmp_path)
    write(tmp_path, "team3/f3.py", PIPE + "# more\n")

    with opened(monkeypatch) as seen:
        changes = catalog.refresh({"team3/f3.py"})
    assert set(changes.read) == {"team3/f3.py"}
    assert len(seen) == 1
    with opened(monkeypatch) as seen:
        catalog.refresh(None)
    assert [path for path in seen if path.endswith(".py")] == [str(tmp_path / "team3/f3.py")]


# ---- any sequence of operations --------------------------------------------------------------------------

FOLDERS = ["", "team", "team/deep", "f", "_lib", "x"]
NAMES = ["a.py", "A.py", "main.py", "f.py", "_x.py", "_lib.py", "a.yaml", "main.yaml", "a.yml", "data.txt", "b-c.py"]
CONTENTS = [
    PIPE, PIPE + "# other\n", PIPE + "import _x\n", PIPE + "from _lib import a\n", "import _x, _lib\n", "def (\n",
    "active: false\n", "actve: 1\n", "",
]  # fmt: skip
IGNORES = ["a.py\n", "_x.py\n", "team/\n", "*.yaml\n", "f\n!f/main.py\n", ""]

PATHS = st.builds(lambda folder, name: f"{folder}/{name}".lstrip("/"), st.sampled_from(FOLDERS), st.sampled_from(NAMES))
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), PATHS, st.sampled_from(CONTENTS)),
    st.tuples(st.just("write"), PATHS, st.sampled_from(CONTENTS)),
    st.tuples(st.just("delete"), PATHS | st.sampled_from(FOLDERS[1:]), st.just("")),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("rename"), st.sampled_from(FOLDERS[1:]), st.sampled_from(["team", "f", "x", "_lib", "new"])),
    st.tuples(
        st.just("write"), st.sampled_from([f"{folder}/.fnsyncignore".lstrip("/") for folder in FOLDERS]),
        st.sampled_from(IGNORES),
    ),
    st.tuples(st.just("link"), PATHS, PATHS | st.sampled_from([*FOLDERS, "../outside.py"])),
)  # fmt: skip


def told(root: Path, *paths: str) -> set[str]:
    """What a watcher calls these paths: it knows folders by where they really are, not by the links to them."""
    real_root = Path(os.path.realpath(root))
    real = [Path(os.path.realpath((root / path).parent)) / Path(path).name for path in paths]
    return {str(path.relative_to(real_root)) for path in real if path.is_relative_to(real_root)}


def perform(root: Path, operation: tuple[str, str, str]) -> set[str]:
    """Do it if it can be done; return the paths that a watcher would tell."""
    what, path, other = operation
    made = [str(up) for up in Path(path).parents if not (root / up).exists()]
    before = told(root, path) | (told(root, other) if what == "rename" else set())
    try:
        if what == "write":
            write(root, path, other)
            before |= told(root, os.path.relpath(os.path.realpath(root / path), os.path.realpath(root)))
        elif what == "delete":
            target = root / path
            shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()
        elif what == "link":
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(os.path.relpath(root / other, (root / path).parent))
        else:
            (root / path).rename(root / other)
    except OSError:
        pass  # nothing that can be done here, or only the folders for it
    return before | told(root, path, *made)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(OPERATIONS, st.sampled_from(["paths", "paths", "wait", "all", "restart"])), max_size=14))
def test_after_any_operations_the_catalog_equals_a_new_one(steps: list[tuple[tuple[str, str, str], str]]) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder) / "functions"
        root.mkdir()
        write(root, "../outside.py")
        catalog = fresh(root)
        paths: set[str] = set()
        for operation, then in [*steps, (("delete", "nothing", ""), "paths")]:
            paths |= perform(root, operation)
            if then == "restart":
                restored = Catalog(root)
                restored.restore(catalog.units.values())
                catalog = restored
            if then == "wait":
                continue
            before = {path: replace(unit, stamps={}) for path, unit in catalog.units.items()}
            changes = catalog.refresh(paths if then == "paths" else None)
            paths = set()
            check(catalog, before, changes)
            assert known(catalog) == known(fresh(root))
            assert set(catalog.units) == set(discovery.scan(root).sources)


def check(catalog: Catalog, before: dict[str, Unit], changes: Changes) -> None:
    """What a refresh tells is what it did."""
    after = {path: replace(unit, stamps={}) for path, unit in catalog.units.items()}
    touched = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changes.removed == before.keys() - after.keys()
    assert changes.ids == {unit.id for path in touched for unit in (before.get(path), after.get(path)) if unit}
    assert touched - changes.removed <= set(changes.read)
    for unit in catalog.units.values():
        assert unit in catalog.claims(unit.id)
    assert catalog.ids() == {unit.id for unit in catalog.units.values()}
