"""The trailers of our commits: what is written is what is read, also by git."""

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnsync.git.trailers import ORIGIN, USER, Origin, origin_line, read_origin, user_line, without_ours

times = st.none() | st.integers(-(10**12) + 1, 10**12 - 1)
origins = st.builds(Origin, times, times, st.none() | st.text(min_size=1))
paths = st.binary(min_size=1).map(os.fsdecode) | st.text(min_size=1)


@given(paths, origins)
def test_an_origin_comes_back_as_it_was_written(path: str, origin: Origin) -> None:
    line = origin_line(path, origin)
    assert line.isascii() and line.isprintable() and len(line.splitlines()) == 1
    assert read_origin(line.removeprefix(f"{ORIGIN}: ")) == (path, origin)


def test_its_form_is_fixed() -> None:
    origin = Origin(1700000000, 1700000001, "user 1/ä@example.org")
    assert origin_line("functions/über setzen.py", origin) == (
        "Fnsync-Origin: created=1700000000 updated=1700000001 user=user%201%2F%C3%A4@example.org "
        "path=functions/%C3%BCber%20setzen.py"
    )
    assert origin_line("a.py", Origin()) == "Fnsync-Origin: path=a.py"
    assert user_line("user-17\n") == "Fnsync-User: user-17"


@given(st.text())
def test_any_text_is_read_as_far_as_it_goes(text: str) -> None:
    found = read_origin(text)
    assert found is None or found[0]


def test_what_cannot_be_read_counts_as_not_said() -> None:
    value = "created=soon updated=99999999999999999999 user= color=red path=a.py stray"
    assert read_origin(value) == ("a.py", Origin())
    assert read_origin("created=1 user=x") is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Edit a", "Edit a"),
        ("Edit a\n\nFnsync-User: x\n", "Edit a"),
        (
            "Edit a\n\nWhy.\n\nSigned-off-by: y\nfnsync-user : x\n  folded\nReviewed-by: z\n",
            "Edit a\n\nWhy.\n\nSigned-off-by: y\nReviewed-by: z",
        ),
        (
            "Edit a\n\nFnsync-User: is how it begins\n\nand goes on",
            "Edit a\n\nFnsync-User: is how it begins\n\nand goes on",
        ),
        ("Fnsync-User: a title", "Fnsync-User: a title"),
        ("", ""),
    ],
)
def test_a_message_is_shown_without_our_trailers(message: str, expected: str) -> None:
    assert without_ours(message) == expected


@settings(max_examples=10, deadline=None)
@given(paths, origins, st.emails())
def test_git_reads_them_as_trailers(
    tmp_path_factory: pytest.TempPathFactory, path: str, origin: Origin, user: str
) -> None:
    folder = tmp_path_factory.mktemp("repository")
    message = "\n".join(["Import", "", user_line(user), origin_line(path, origin), origin_line("b.py", Origin(1))])

    def git(*arguments: str) -> str:
        names = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], check=True, capture_output=True, env=os.environ | names
        )
        return done.stdout.decode().strip()

    git("init", "-q")
    git("commit", "-q", "--no-gpg-sign", "--allow-empty", "-m", message)
    shown = git("log", f"--format=%(trailers:key={USER},valueonly)%x00%(trailers:key={ORIGIN},valueonly)")
    found_user, found_origins = shown.split("\0")
    assert found_user.strip() == user
    assert [read_origin(line) for line in found_origins.split("\n") if line] == [(path, origin), ("b.py", Origin(1))]
    assert without_ours(git("log", "--format=%B")) == "Import"
