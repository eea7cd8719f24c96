"""Addresses of one repository are one, however they are written; those of others are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnsync.git.identity import identity

HOST = st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z]{2,5}){1,2}", fullmatch=True)
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,12}[A-Za-z0-9_-]", fullmatch=True).filter(
    lambda name: not name.lower().endswith(".git")
)
PATHS = st.lists(NAME, min_size=1, max_size=4).map("/".join)
FORMS = (
    "https://{host}/{path}",
    "https://{host}/{path}.git",
    "http://ada:s3cret@{host}:8080/{path}.git/",
    "git://{host}/{path}.git",
    "ssh://git@{host}/{path}.git",
    "ssh://git@{host}:2222/{path}",
    "git+ssh://{host}/{path}",
    "git@{host}:{path}.git",
    "{host}:/{path}.git",
    "[{host}:2222]:{path}.git",
    "git@[{host}:2222]:{path}",
)


@given(HOST, PATHS, st.sampled_from(FORMS), st.booleans())
def test_every_form_is_the_same_repository(host: str, path: str, form: str, loud: bool) -> None:
    address = form.format(host=host.upper() if loud else host, path=path)
    assert identity(address) == f"{host}/{path.casefold()}"


@given(HOST, PATHS, PATHS, st.sampled_from(FORMS), st.sampled_from(FORMS))
def test_other_paths_are_other_repositories(host: str, one: str, other: str, form: str, second: str) -> None:
    if one.casefold() != other.casefold():
        assert identity(form.format(host=host, path=one)) != identity(second.format(host=host, path=other))


@given(st.text(max_size=60))
def test_any_text_has_an_answer(text: str) -> None:
    found = identity(text)
    assert found is None or "/" in found


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/srv/git/functions.git", "/srv/git/functions"),
        ("file:///srv/git/functions.git", "/srv/git/functions"),
        ("/srv/git/Functions", "/srv/git/Functions"),
        ("/srv/git/other/.git", "/srv/git/other/.git"),
        ("ssh://git@ssh.github.com:443/acme/functions.git", "github.com/acme/functions"),
        ("https://host/a%2Fb/c", "host/a/b/c"),
        ("https://host.:443/a/../b", "host/b"),
        ("functions", None),
        ("./functions", None),
        ("", None),
        ("https://host", None),
        ("https://[half/x", None),
        ("https://host/" + "x" * 4000, None),
    ],
)
def test_addresses(address: str, expected: str | None) -> None:
    assert identity(address) == expected
