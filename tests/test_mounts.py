"""The functions folder and the trees of sources as one set of units, without workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fnsync.errors import SourceError
from fnsync.model import FunctionId, Tree, Unit
from fnsync.source import files
from fnsync.source.catalog import Catalog, Changes
from fnsync.source.mounts import Mounts, inner, outer, read_from
from tests.trees import Upstream

PIPE = "class Pipe:\n    def pipe(self, body):\n        return 1\n"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that are read, by their paths."""
    found: list[str] = []
    load = files.load

    def spy(root: Path, path: str, limit_bytes: int) -> files.Content:
        found.append(path)
        return load(root, path, limit_bytes)

    monkeypatch.setattr(files, "load", spy)
    yield found


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "project/functions"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def acme(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "acme", tmp_path / "data", prefix="acme_")


def mounts_of(local: Path, *trees: Tree) -> Mounts:
    made = Mounts(local, Catalog(local))
    made.first_look(trees)
    return made


def the(mounts: Mounts, id: str) -> Unit:
    [unit] = mounts.claims(FunctionId(id))
    return unit


def ids(changes: Changes) -> set[str]:
    return set(changes.ids)


def test_a_source_is_beside_the_folder_under_its_prefix(local: Path, acme: Upstream) -> None:
    (local / "own.py").write_text(PIPE)
    (local / "_lib.py").write_text("X = 'local'\n")
    acme.commit(
        0,
        {
            "translate.py": "from _lib import X\nfrom _own import Y\n" + PIPE,
            "_lib.py": "X = 'acme'\n",
            "translate.yaml": "active: false\n",
            "team/main.py": PIPE,
            "team/helper.py": "Z = 1\n",
            "hidden.py": PIPE,
            ".fnsyncignore": "hidden.py\n",
            "not-an-id.py": PIPE,
        },
    )
    mounts = mounts_of(local, acme.tree())
    assert mounts.ids() == {"own", "acme_translate", "acme_team"}
    unit = the(mounts, "acme_translate")
    assert (unit.path, unit.source, unit.name) == ("acme:translate.py", "acme", "translate")
    assert (unit.settings_path, unit.settings.active) == ("acme:translate.yaml", False)
    assert {part.path for part in unit.parts} == {"acme:translate.py", "acme:_lib.py"}
    assert all(path.startswith("acme:") for path in unit.stamps)
    assert {part.path for part in the(mounts, "acme_team").parts} == {"acme:team/main.py", "acme:team/helper.py"}
    [refused] = mounts.refused
    assert (refused.code, refused.path) == ("bad_id", "acme:not-an-id.py")
    assert outer(inner(unit), "acme", "acme_") == unit
    folder = acme.tree().folder
    assert mounts.root_of("acme:translate.py") == (folder, "translate.py")
    assert mounts.root_of("own.py") == (local, "own.py")
    alone = Catalog(folder)
    alone.refresh(None)
    [same] = alone.claims(FunctionId("translate"))
    assert same.revision == unit.revision, "the prefix is no part of a function"


def test_local_files_claim_first_then_sources_by_name(local: Path, tmp_path: Path) -> None:
    beta, alpha = (Upstream(tmp_path / name, tmp_path / "data", name) for name in ("beta", "alpha"))
    for upstream in (beta, alpha):
        upstream.commit(0, {"a.py": PIPE, "b.py": PIPE})
    (local / "b.py").write_text(PIPE)
    mounts = mounts_of(local, beta.tree(), alpha.tree())
    assert [unit.path for unit in mounts.claims(FunctionId("a"))] == ["alpha:a.py", "beta:a.py"]
    assert [unit.path for unit in mounts.claims(FunctionId("b"))] == ["b.py", "alpha:b.py", "beta:b.py"]
    assert ids(mounts.unmount("alpha")) == {"a", "b"}
    assert [unit.path for unit in mounts.claims(FunctionId("a"))] == ["beta:a.py"]


def test_a_local_folder_cannot_be_taken_for_a_source(local: Path, acme: Upstream) -> None:
    acme.commit(0, {"x/a.py": PIPE})
    (local / "acme:x").mkdir()
    (local / "acme:x/a.py").write_text(PIPE)
    mounts = mounts_of(local, acme.tree())
    assert [unit.source for id in mounts.ids() for unit in mounts.claims(id)] == ["acme"]
    assert [(problem.code, problem.path) for problem in mounts.refused] == [("bad_id", "acme:x/a.py")]


def test_a_prefix_may_make_an_id_too_long(local: Path, tmp_path: Path) -> None:
    acme = Upstream(tmp_path / "acme", tmp_path / "data", prefix="p" * 150)
    acme.commit(0, {"a.py": PIPE, "b" * 60 + ".py": PIPE})
    mounts = mounts_of(local, acme.tree())
    assert mounts.ids() == {"p" * 150 + "a"}
    [problem] = mounts.refused
    assert problem.code == "bad_id" and "prefix" in problem.message


def test_a_switch_reads_what_depends_on_what_changed(local: Path, acme: Upstream, opened: list[str]) -> None:
    files_ = {f"f{n}.py": f"'''{n}'''\n" + PIPE for n in range(40)}
    users = {f"u{n}.py": "from _lib import X\n" + PIPE for n in range(3)}
    first = acme.commit(0, {**files_, **users, "_lib.py": "X = 1\n", "team/main.py": PIPE, "team/help.py": "A = 1\n"})
    mounts = mounts_of(local, acme.tree())
    second = acme.commit(1, {"f7.py": PIPE, "f8.py": None, "new.py": PIPE, "README.md": "words"})
    opened.clear()
    changes = mounts.mount(acme.tree(), acme.changed(first, second))
    assert opened == ["f7.py", "new.py"], "hard links have other stamps, which say nothing"
    assert ids(changes) == {"acme_f7", "acme_f8", "acme_new"}
    assert changes.removed == {"acme:f8.py"} and changes.read.keys() == {"acme:f7.py", "acme:new.py"}
    third = acme.commit(2, {"_lib.py": "X = 2\n", "team/help.py": None, "team/more.py": "B = 1\n"})
    opened.clear()
    changes = mounts.mount(acme.tree(), acme.changed(second, third))
    assert ids(changes) == {"acme_u0", "acme_u1", "acme_u2", "acme_team"}
    assert set(opened) == {"_lib.py", "u0.py", "u1.py", "u2.py", "team/main.py", "team/more.py"}
    fourth = acme.commit(3, {".fnsyncignore": "f1*.py\n", "f2.py": PIPE})
    opened.clear()
    changes = mounts.mount(acme.tree(), acme.changed(third, fourth))
    assert ids(changes) == {"acme_f2", "acme_f1", *(f"acme_f1{n}" for n in range(10))}
    assert set(opened) == {".fnsyncignore", "f2.py"}
    opened.clear()
    assert not ids(mounts.refresh(None)) and not opened, "nobody looks at a tree again"
    fresh = mounts_of(local, acme.tree())
    assert mounts.ids() == fresh.ids()
    assert all(replace(the(mounts, id), stamps={}) == replace(the(fresh, id), stamps={}) for id in fresh.ids())


def test_a_switch_to_who_knows_what_looks_at_everything(local: Path, acme: Upstream) -> None:
    first = acme.commit(0, {"a.py": PIPE, "b.py": PIPE})
    mounts = mounts_of(local, acme.tree())
    acme.commit(1, {"a.py": "'''new'''\n" + PIPE, "b.py": None, "c.py": PIPE})
    assert ids(mounts.mount(acme.tree(), None)) == {"acme_a", "acme_b", "acme_c"}
    assert ids(mounts.mount(acme.tree(first), None)) == {"acme_a", "acme_b", "acme_c"}
    tree = acme.tree()
    other = Tree(tree.source, "x_", tree.folder, tree.commit, tree.repository, tree.path)
    assert ids(mounts.mount(other, ())) == {"acme_a", "acme_b", "x_a", "x_c"}
    assert mounts.ids() == {"x_a", "x_c"}


def test_a_restart_reads_no_unchanged_tree(local: Path, acme: Upstream, opened: list[str]) -> None:
    acme.commit(0, {f"f{n}.py": PIPE for n in range(1000)} | {"bad-name.py": PIPE})
    tree = acme.tree()
    before = mounts_of(local, tree)
    units = [unit for id in before.ids() for unit in before.claims(id)]
    acme.commit(1, {"f3.py": None})
    later = acme.tree()  # its hard links give the files of the tree before other stamps
    opened.clear()
    mounts = Mounts(local, Catalog(local))
    mounts.restore(units, dict(before.marks))
    changes = mounts.first_look([tree])
    assert opened == [] and not changes.read and not changes.ids and not changes.removed
    assert mounts.ids() == before.ids() and mounts.refused == before.refused
    mounts = Mounts(local, Catalog(local))
    mounts.restore(units, dict(before.marks))
    changes = mounts.first_look([later])
    assert len(opened) == 999 and changes.removed == {"acme:f3.py"}, "another tree is read"
    mounts = Mounts(local, Catalog(local))
    mounts.restore(units, dict(before.marks))
    assert len(mounts.first_look([]).removed) == 1000, "the source is gone"


def test_a_tree_that_is_not_there_changes_nothing(local: Path, acme: Upstream, tmp_path: Path) -> None:
    acme.commit(0, {"a.py": PIPE})
    tree = acme.tree()
    mounts = mounts_of(local, tree)
    lost = Tree("acme", "acme_", tmp_path / "nowhere", tree.commit, tree.repository, tree.path)
    with pytest.raises(SourceError) as caught:
        mounts.mount(lost, None)
    assert caught.value.problem.code == "tree_missing" and "fnsync sync acme" in str(caught.value.hint)
    assert mounts.ids() == {"acme_a"} and mounts.trees == {"acme": tree}


def test_a_function_is_found_in_an_older_tree(local: Path, acme: Upstream) -> None:
    first = acme.commit(0, {"a.py": PIPE, "team/b.py": PIPE})
    acme.commit(1, {"a.py": "'''new'''\n" + PIPE, "team/b.py": None, "b.py": "'''new'''\n" + PIPE, "c.py": PIPE})
    mounts = mounts_of(local, acme.tree())
    for id, path in (("acme_a", "acme:a.py"), ("acme_b", "acme:team/b.py")):
        found = read_from(acme.tree(first), the(mounts, id))
        assert found is not None and (found.id, found.path, found.source) == (id, path, "acme")
        assert found.revision != the(mounts, id).revision
    assert read_from(acme.tree(first), the(mounts, "acme_c")) is None
