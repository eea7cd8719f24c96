"""Addresses of places in git repositories: taken apart, and nothing of them shown that may be a secret."""

from __future__ import annotations

import pytest

from fnsync.errors import Invalid
from fnsync.git.location import Location, located, parse, same, scheme

HOST = "https://git.example.org/acme/functions"


@pytest.mark.parametrize(
    ("text", "url", "ref", "path"),
    [
        (f"git+{HOST}.git", f"{HOST}.git", None, None),
        (f"git+{HOST}.git@main#functions/text.py", f"{HOST}.git", "main", "functions/text.py"),
        (f"git+{HOST}.git@feature/a@b#/functions/", f"{HOST}.git", "feature/a@b", "functions"),
        (f"git+{HOST}@v1.2", HOST, "v1.2", None),
        (f" GIT+{HOST}#subdirectory=a/b&egg=x", HOST, None, "a/b"),
        (f"git+{HOST}#a%20b.py", HOST, None, "a b.py"),
        (f"git+{HOST}#", HOST, None, None),
        ("git+https://host/@acme/functions", "https://host/@acme/functions", None, None),
        ("git+https://host/@acme/functions@pr/12", "https://host/@acme/functions", "pr/12", None),
        ("git+ssh://git@host:2222/a.git@main#x", "ssh://git@host:2222/a.git", "main", "x"),
        ("git+ssh://git@host/a", "ssh://git@host/a", None, None),
    ],
)
def test_an_address_is_taken_apart(text: str, url: str, ref: str | None, path: str | None) -> None:
    assert parse(text) == Location(url, ref, path)


@pytest.mark.parametrize(
    "text",
    [
        "git+",
        "git+acme/functions",
        "git+https://u:geheim@host/a.git",
        "git+https://geheim@host/a.git@main",
        "git+ssh://git:geheim@host/a.git",
        "git+https://host:x/a",
        "git+https://host/a.git@--upload-pack=x",
        "git+https://host/a b",
        "git+https://host/a#../../etc",
        "git+https://host/a#x/.GIT/config",
    ],
)
def test_what_is_none_is_refused_without_its_secrets(text: str) -> None:
    with pytest.raises(Invalid) as told:
        parse(text)
    assert "geheim" not in f"{told.value.message} {told.value.hint}"


@pytest.mark.parametrize("url", ["", "-x", "ext::sh -c id", "fd::3", "https://h/\nx"])
def test_what_git_would_take_for_something_else_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        located(url, None, None)


def test_how_the_other_side_is_spoken_to() -> None:
    schemes = {
        "https://h/a": "https",
        "SSH://git@h/a": "ssh",
        "git@h:a/b.git": "ssh",
        "h:a": "ssh",
        "/srv/a.git": "file",
        "./a:b": "file",
        "file:///srv/a": "file",
        "../a": "file",
    }
    assert {url: scheme(url) for url in schemes} == schemes


def test_a_repository_is_the_same_however_it_is_written() -> None:
    assert same("https://GIT.example.org/a.git", "https://u@git.example.org/a/")
    assert not same("https://git.example.org/a", "https://git.example.org/A")
    assert located("ssh://git@h/a", "main", "x").shown == "ssh://h/a@main#x"
