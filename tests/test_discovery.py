"""Which files below the functions folder are functions, and what is refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fnsync.places import is_noise
from fnsync.source.discovery import scan, walk


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("x = 1\n")
    return root


def codes(root: Path) -> dict[str | None, str]:
    return {problem.path: problem.code for problem in scan(root).refused}


def test_files_and_folders_are_functions(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "team/b.py", "team/deep/c.py", "d/main.py", "d/helper.py", "d/sub/main.py", "main.py")

    assert scan(tmp_path).sources == ("a.py", "d/main.py", "main.py", "team/b.py", "team/deep/c.py")


def test_shared_modules_and_other_files_are_no_functions(tmp_path: Path) -> None:
    make(tmp_path, "_a.py", "_lib/b.py", "_lib/c/main.py", "team/_x.py", "a.yaml", "README.md", "__init__.py")

    assert scan(tmp_path).sources == ()
    assert "_lib/b.py" in scan(tmp_path).files


@pytest.mark.parametrize(
    "name",
    [".a.py", "a.py~", ".#a.py", "#a.py#", ".a.py.swp", "a.py.swp", "a.swx", "4913", "a.tmp", "a.py.orig", "a.rej",
     "a.py___jb_tmp___", "a.py___jb_old___", "a.bak", "a.pyc"],
)  # fmt: skip
def test_leftovers_of_editors_do_not_count(tmp_path: Path, name: str) -> None:
    make(tmp_path, name, f"f/{name}", "f/main.py")

    assert is_noise(name)
    assert list(scan(tmp_path).files) == ["f/main.py"]


def test_ordinary_names_count() -> None:
    assert not any(
        map(is_noise, ["a.py", "tmp.py", "a.swift", "4913.py", "orig.py", "a#b.txt", "_x.py", "__init__.py"])
    )


def test_hidden_folders_and_caches_do_not_count(tmp_path: Path) -> None:
    make(tmp_path, ".git/a.py", "__pycache__/b.py", "f/__pycache__/c.py", "f/.venv/d.py", "f/main.py")

    assert list(scan(tmp_path).files) == ["f/main.py"]


def test_ignore_files_follow_git(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "draft_b.py", "old/c.py", "team/draft_d.py", "team/e.py", "team/sub/e.py", "keep/draft_f.py")
    (tmp_path / ".fnsyncignore").write_text("# drafts\ndraft_*\nold/\n")
    (tmp_path / "team/.fnsyncignore").write_text("/e.py\n")
    (tmp_path / "keep/.fnsyncignore").write_text("!draft_f.py\n")

    assert scan(tmp_path).sources == ("a.py", "keep/draft_f.py", "team/sub/e.py")
    assert walk(tmp_path, "old/c.py").files == {}
    assert walk(tmp_path, "old").files == {}
    assert walk(tmp_path, "team/e.py").files == {}
    assert list(walk(tmp_path, "team/sub/e.py").files) == ["team/sub/e.py"]


def test_an_ignore_file_with_a_bad_line_still_works(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "b.py")
    (tmp_path / ".fnsyncignore").write_text("b.py\n!\n")
    found = scan(tmp_path)

    assert found.sources == ("a.py",)
    assert [(problem.code, problem.path, problem.line) for problem in found.refused] == [("ignore", ".fnsyncignore", 2)]


@pytest.mark.parametrize(
    ("path", "hint"),
    [("my-tool.py", "my_tool"), ("2fast.py", "f_2fast"), ("a.b.py", "a_b"), ("my tool/main.py", "my_tool")],
)
def test_a_name_that_is_no_id_is_refused_with_a_better_one(tmp_path: Path, path: str, hint: str) -> None:
    make(tmp_path, path)
    found = scan(tmp_path)

    assert found.sources == ()
    assert [(problem.code, problem.path) for problem in found.refused] == [("bad_id", path)]
    assert hint in (found.refused[0].hint or "")


def test_an_id_that_no_record_could_be_named_after_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "x" * 220 + ".py")

    assert list(codes(tmp_path).values()) == ["bad_id"]


def test_the_helpers_of_a_refused_folder_do_not_become_functions(tmp_path: Path) -> None:
    make(tmp_path, "my-tool/main.py", "my-tool/helper.py", "linked/helper.py")
    (tmp_path / "linked/main.py").symlink_to("/etc/passwd")

    assert scan(tmp_path).sources == ()
    assert codes(tmp_path) == {"my-tool/main.py": "bad_id", "linked/main.py": "outside"}


def test_links_inside_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "team/a.py")
    (tmp_path / "b.py").symlink_to("team/a.py")
    (tmp_path / "alias").symlink_to("team")

    assert scan(tmp_path).sources == ("alias/a.py", "b.py", "team/a.py")
    assert walk(tmp_path).links == {"b.py": "team/a.py", "alias": "team"}


def test_links_outside_in_circles_and_to_nothing_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "functions", "team/a.py")
    make(tmp_path, "secret.py", "other/b.py")
    (root / "out.py").symlink_to(tmp_path / "secret.py")
    (root / "folder").symlink_to("../other")
    (root / "team/up").symlink_to("..")
    (root / "loop.py").symlink_to("loop.py")
    (root / "gone.py").symlink_to("nothing.py")
    found = scan(root)

    assert found.sources == ("team/a.py",)
    assert codes(root) == {
        "folder": "outside",
        "gone.py": "broken_link",
        "loop.py": "link_loop",
        "out.py": "outside",
        "team/up": "link_loop",
    }
    assert "outside the functions folder" in str(found.refused[0])


def test_a_link_beside_the_folder_with_the_same_beginning_is_outside(tmp_path: Path) -> None:
    root = make(tmp_path / "functions", "a.py")
    make(tmp_path / "functions-old", "b.py")
    (root / "b.py").symlink_to("../functions-old/b.py")

    assert codes(root) == {"b.py": "outside"}


def test_pipes_and_sockets_are_refused_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.py")
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(tmp_path, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{folder}/b.py")
        finally:
            os.close(folder)

    assert codes(tmp_path) == {"a.py": "special_file", "b.py": "special_file"}


def test_a_name_that_is_not_utf8_is_refused_readably(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.py")).write_text("x = 1\n")
    found = scan(tmp_path)

    assert found.sources == ()
    assert [(problem.code, problem.path) for problem in found.refused] == [("bad_name", "caf\\xe9.py")]
    str(found.refused[0]).encode()


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    found = scan(tmp_path / "nothing")

    assert found.sources == ()
    assert [problem.code for problem in found.refused] == ["vanished"]


def test_a_walk_of_one_place_lists_only_that(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "team/b.py", "team/c/d.py")

    assert list(walk(tmp_path, "a.py").files) == ["a.py"]
    assert set(walk(tmp_path, "team").files) == {"team/b.py", "team/c/d.py"}
    assert walk(tmp_path, "a.py/x").files == {}
    assert walk(tmp_path, "nothing").files == {}
    assert walk(tmp_path, "nul\0").files == {}
    assert walk(tmp_path, "x" * 5000).files == {}
