"""What reading one function from disk gives, also when its files are in a bad state."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fnsync.model import Kind, Unit
from fnsync.source import files
from fnsync.source.reading import Reader, read

PIPE = '"""\ntitle: Hello\nrequirements: httpx\n"""\n\nclass Pipe:\n    def pipe(self, body):\n        return "a"\n'


def put(root: Path, **contents: str | bytes) -> None:
    """Write files; `__` in a name stands for a slash, and the suffix is .py unless the name ends in another."""
    for name, content in contents.items():
        write(root, name.replace("__", "/") + ".py", content)


def write(root: Path, path: str, content: str | bytes = "") -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)


def unit(root: Path, path: str = "f.py") -> Unit:
    return read(root, path).unit


def places(found: Unit) -> dict[str, str]:
    return {part.place: part.path for part in found.parts}


def test_a_single_file(tmp_path: Path) -> None:
    put(tmp_path, team__Hello=PIPE)
    reading = read(tmp_path, "team/Hello.py")
    found = reading.unit

    assert reading.text == PIPE
    assert (found.id, found.path, found.name) == ("hello", "team/Hello.py", "Hello")
    assert found.problem is None and found.revision is not None
    assert found.inspection.kind is Kind.PIPE
    assert found.frontmatter.requirements == ("httpx",)
    assert places(found) == {"function/main.py": "team/Hello.py"}
    assert found.entry in places(found)
    assert found.settings_path is None
    assert found.stamps["team/Hello.yaml"] is None


def test_a_folder_with_helpers_and_assets(tmp_path: Path) -> None:
    write(tmp_path, "f/main.py", PIPE + "from .tools import deep\nimport data, httpx\n")
    for path in ("f/tools/deep.py", "f/data/table.bin", "f/.hidden", "f/x.py~", "f/__pycache__/a.pyc", "f/sub/main.py"):
        write(tmp_path, path)
    write(tmp_path, "f/main.yaml", "active: false")
    found = unit(tmp_path, "f/main.py")

    assert found.id == "f"
    assert sorted(places(found)) == [
        "function/data/table.bin", "function/main.py", "function/sub/main.py", "function/tools/deep.py",
    ]  # fmt: skip
    assert {item.module: item.origin for item in found.inspection.imports} == {
        ".tools": "local",
        "data": "local",
        "httpx": "third_party",
    }
    assert found.settings_path == "f/main.yaml"
    assert found.settings.active is False


def test_shared_modules_are_found_statically_and_transitively(tmp_path: Path) -> None:
    put(
        tmp_path,
        team__f=PIPE + "from _a import x\nfrom ._near import y\n",
        _a="import _lib.deep\n",
        _lib__deep="from . import _inner\nfrom ._same import z\n",
        _lib___inner="import _b\n",
        _lib__unused="",
        _b="",
        _c="",
        team___near="",
        other___hidden="",
    )
    found = unit(tmp_path, "team/f.py")

    assert sorted(places(found)) == [
        "function/main.py", "shared/_a.py", "shared/_b.py", "shared/_lib/_inner.py", "shared/_lib/deep.py",
        "shared/_lib/unused.py", "shared/_near.py",
    ]  # fmt: skip
    assert {item.module: item.origin for item in found.inspection.imports} == {"_a": "shared", "._near": "shared"}
    assert found.problem is None


def test_the_nearest_shared_module_wins(tmp_path: Path) -> None:
    put(tmp_path, _x="far = 1", team___x="near = 1", team__deep__f=PIPE + "import _x", g=PIPE + "import _x")

    assert places(unit(tmp_path, "team/deep/f.py"))["shared/_x.py"] == "team/_x.py"
    assert places(unit(tmp_path, "g.py"))["shared/_x.py"] == "_x.py"


def test_a_package_goes_before_a_module_and_a_bare_folder_after_it(tmp_path: Path) -> None:
    put(tmp_path, f=PIPE + "import _x, _y", _x="", _y="", _y__a="")
    write(tmp_path, "_x/__init__.py")

    assert set(places(unit(tmp_path))) == {"function/main.py", "shared/_x/__init__.py", "shared/_y.py"}


def test_helpers_go_before_shared_modules_and_may_import_them(tmp_path: Path) -> None:
    write(tmp_path, "f/main.py", PIPE + "import _own")
    write(tmp_path, "f/_own.py", "import _far\nfrom .._up import a")
    put(tmp_path, _own="", _far="", _up="")

    assert sorted(places(unit(tmp_path, "f/main.py"))) == [
        "function/_own.py", "function/main.py", "shared/_far.py", "shared/_up.py",
    ]  # fmt: skip


def test_a_missing_shared_module_is_looked_for_in_every_folder(tmp_path: Path) -> None:
    put(tmp_path, team__f=PIPE + "import _x\nimport _thread")
    found = unit(tmp_path, "team/f.py")

    for path in ("_x", "_x.py", "team/_x", "team/_x.py"):
        assert found.stamps[path] is None
    assert "_thread.py" not in found.stamps


def test_the_revision_is_of_the_content_alone(tmp_path: Path) -> None:
    put(tmp_path, a=PIPE, team__b=PIPE, changed=PIPE + "# more\n", _x="")
    write(tmp_path, "c/main.py", PIPE)
    write(tmp_path, "team/b.yaml", "active: false")
    same = {unit(tmp_path, path).revision for path in ("a.py", "team/b.py", "c/main.py")}

    assert len(same) == 1
    assert unit(tmp_path, "changed.py").revision not in same
    write(tmp_path, "c/asset.txt", "x")
    assert unit(tmp_path, "c/main.py").revision not in same


def test_a_changed_shared_module_makes_a_new_revision(tmp_path: Path) -> None:
    put(tmp_path, f=PIPE + "import _x", _x="a = 1")
    before = unit(tmp_path).revision
    put(tmp_path, _x="a = 2")

    assert unit(tmp_path).revision != before


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"x = 1\ny = '\xe9'\n", "encoding", 2),
        (b"\xef\xbb\xbfx = 1\ny = '\xe9'\n", "encoding", 2),
        (b"# coding: latin-1\nclass Pipe: ...\n", "encoding", 1),
        (b"#!/x\n# -*- coding: cp1252 -*-\n", "encoding", 2),
        (b"# coding: rot13\n", "encoding", 1),
        (b"# coding: nothing-known\n", "encoding", 1),
        (b"x = 1\n\n\x00", "nul_bytes", 3),
        ("class Pipe: ...".encode("utf-16"), "nul_bytes", 1),
        (b"x = 1\ndef f(:\n", "syntax", 2),
        (b"class Tools: ...\n", "no_class", None),
        (b"", "no_class", None),
        (b'"""\nrequirements: a b\n"""\nclass Pipe: ...\n', "frontmatter", 2),
        (b"x = " + b"(" * 5000, "syntax", 1),
    ],
)
def test_a_source_that_cannot_be_loaded_has_a_revision_and_a_problem(
    tmp_path: Path, content: bytes, code: str, line: int | None
) -> None:
    write(tmp_path, "f.py", content)
    reading = read(tmp_path, "f.py")

    assert reading.unit.problem is not None
    assert (reading.unit.problem.code, reading.unit.problem.path) == (code, "f.py")
    assert reading.unit.problem.line == line
    assert reading.unit.revision is not None
    reading.text.encode()


@pytest.mark.parametrize(
    "head",
    [
        b"\xef\xbb\xbf",
        b"# coding: utf-8\n",
        b"# -*- coding: UTF8 -*-\n",
        b"# vim: set fileencoding=ascii :\n",
        b"\n# coding: utf-8-unix\n",
    ],
)
def test_encodings_that_are_read(tmp_path: Path, head: bytes) -> None:
    write(tmp_path, "f.py", head + PIPE.encode())

    assert unit(tmp_path).problem is None
    assert unit(tmp_path).name == "Hello"


def test_a_source_over_the_limit_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "f.py", b"#" * (5 * 1024 * 1024 + 1))
    found = unit(tmp_path)

    assert found.problem is not None and found.problem.code == "too_large"
    assert "5,242,880" in found.problem.message
    assert found.revision is None
    assert found.stamps["f.py"] == files.look(tmp_path, "f.py")


def test_a_folder_over_the_limits_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "many/main.py", PIPE)
    for number in range(2001):
        write(tmp_path, f"many/data/{number}")
    write(tmp_path, "big/main.py", PIPE)
    for number in range(6):
        write(tmp_path, f"big/{number}", bytes(10 * 1024 * 1024))

    many, big = unit(tmp_path, "many/main.py"), unit(tmp_path, "big/main.py")
    assert many.problem is not None and (many.problem.code, many.revision) == ("too_many_files", None)
    assert big.problem is not None and (big.problem.code, big.revision) == ("too_large", None)


def test_a_missing_source_is_said(tmp_path: Path) -> None:
    for path in ("f.py", "nothing/f.py"):
        problem = unit(tmp_path, path).problem
        assert problem is not None and (problem.code, problem.path) == ("vanished", path)


def test_what_cannot_be_opened_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, f=PIPE)

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    # Tests may run as root, whom no mode keeps out.
    monkeypatch.setattr(os, "open", denied)
    problem = unit(tmp_path).problem

    assert problem is not None and (problem.code, problem.path) == ("unreadable", "f.py")
    assert "Permission denied" in problem.message


@pytest.mark.parametrize("path", ["f.py", "f.yaml", "_x.py"])
def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path: Path, path: str) -> None:
    put(tmp_path, f=PIPE + "import _x", _x="")
    (tmp_path / path).unlink(missing_ok=True)
    os.mkfifo(tmp_path / path)
    problem = unit(tmp_path).problem

    assert problem is not None and (problem.code, problem.path) == ("special_file", path)


@pytest.mark.parametrize("path", ["f/main.py", "f/a.py", "f/main.yaml", "_x.py", "_lib/a.py", "_lib"])
def test_a_link_that_leads_outside_is_a_problem_of_the_function(tmp_path: Path, path: str) -> None:
    root = tmp_path / "functions"
    write(root, "f/main.py", PIPE + "import _x, _lib")
    put(root, _x="")
    write(tmp_path, "outside.py", PIPE)
    (root / path).unlink(missing_ok=True)
    (root / path).parent.mkdir(exist_ok=True)
    (root / path).symlink_to(tmp_path / "outside.py")
    problem = unit(root, "f/main.py").problem

    assert problem is not None and (problem.code, problem.path) == ("outside", path)


def test_links_inside_are_read(tmp_path: Path) -> None:
    put(tmp_path, real=PIPE, lib__a="x = 1")
    (tmp_path / "f.py").symlink_to("real.py")
    (tmp_path / "_lib").symlink_to("lib")
    write(tmp_path, "g.py", PIPE + "import _lib.a")

    assert unit(tmp_path).revision == unit(tmp_path, "real.py").revision
    assert places(unit(tmp_path, "g.py"))["shared/_lib/a.py"] == "_lib/a.py"


def test_bad_settings_leave_the_defaults_and_say_where(tmp_path: Path) -> None:
    put(tmp_path, f=PIPE)
    write(tmp_path, "f.yaml", "active: false\nactve: 1\n")
    found = unit(tmp_path)

    assert found.problem is not None
    assert (found.problem.code, found.problem.path, found.problem.line) == ("settings", "f.yaml", 2)
    assert found.settings.active is None
    assert found.revision is not None and found.settings_path == "f.yaml"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"a: \xe9", "encoding"),
        (b"a: \x00", "nul_bytes"),
        (b"#" * (256 * 1024 + 1), "too_large"),
        (b"x: [", "settings"),
    ],
)
def test_settings_that_are_no_text_are_said(tmp_path: Path, content: bytes, code: str) -> None:
    put(tmp_path, f=PIPE)
    write(tmp_path, "f.yaml", content)
    problem = unit(tmp_path).problem

    assert problem is not None and (problem.code, problem.path) == (code, "f.yaml")


@pytest.mark.parametrize(("source", "wrong"), [("f.py", "f.yml"), ("f/main.py", "f/main.yml")])
def test_another_suffix_of_the_settings_is_said(tmp_path: Path, source: str, wrong: str) -> None:
    write(tmp_path, source, PIPE)
    write(tmp_path, wrong, "active: false")
    problem = unit(tmp_path, source).problem

    assert problem is not None and (problem.code, problem.path) == ("settings_name", wrong)
    assert ".yaml" in (problem.hint or "")


def test_ignored_files_are_not_there(tmp_path: Path) -> None:
    put(tmp_path, f=PIPE + "import _x", _x="")
    write(tmp_path, "f.yaml", "active: false")
    write(tmp_path, ".fnsyncignore", "_x.py\n*.yaml\n")
    found = unit(tmp_path)

    assert set(places(found)) == {"function/main.py"}
    assert found.settings_path is None


def test_a_broken_shared_module_is_a_problem_of_the_function(tmp_path: Path) -> None:
    put(tmp_path, f=PIPE + "import _x", _x="def (")
    problem = unit(tmp_path).problem

    assert problem is not None and (problem.code, problem.path, problem.line) == ("syntax", "_x.py", 1)


@pytest.mark.parametrize("line", ["import sub.broken", "from sub import broken", "from .sub import broken"])
def test_a_broken_helper_is_a_problem_when_it_is_imported(tmp_path: Path, line: str) -> None:
    write(tmp_path, "f/sub/broken.py", "def (")
    write(tmp_path, "f/main.py", PIPE)
    assert unit(tmp_path, "f/main.py").problem is None

    write(tmp_path, "f/main.py", PIPE + line)
    problem = unit(tmp_path, "f/main.py").problem
    assert problem is not None and (problem.code, problem.path) == ("syntax", "f/sub/broken.py")


def test_a_fresh_file_is_not_trusted_and_an_old_one_is(tmp_path: Path) -> None:
    put(tmp_path, f=PIPE)
    found = unit(tmp_path).stamps["f.py"]
    assert found is not None and not found.trusted

    deadline = threading.Event()
    while not found.trusted:
        deadline.wait(0.01)
        found = unit(tmp_path).stamps["f.py"]
        assert found is not None


def test_reading_while_everything_changes_never_raises(tmp_path: Path) -> None:
    write(tmp_path, "f/main.py", PIPE + "import _x")
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            write(tmp_path, f"f/deep{number % 3}/a.py", "x = 1")
            write(tmp_path, "_x/a.py", "x" * (number % 500))
            write(tmp_path, "f/new.tmp", PIPE + "import _x")
            (tmp_path / "f/new.tmp").rename(tmp_path / "f/main.py")
            for folder in ("_x", f"f/deep{number % 3}"):
                (tmp_path / folder).rename(tmp_path / "gone")
                for path in (tmp_path / "gone").iterdir():
                    path.unlink()
                (tmp_path / "gone").rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        reader = Reader(tmp_path)
        found = [reader.read("f/main.py").unit for _ in range(300)]
    finally:
        stop.set()
        thread.join()

    assert {one.problem.code for one in found if one.problem} <= {"vanished", "syntax"}
    assert any(one.revision for one in found)
