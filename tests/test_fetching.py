"""Sources by address: what a page's raw file is, what it is called, and what happens when it cannot be had."""

from __future__ import annotations

import asyncio

import pytest

from fnsync.edits.fetching import fetch, name_of, raw_address
from fnsync.errors import Invalid


@pytest.mark.parametrize(
    ("page", "raw"),
    [
        ("https://github.com/o/r/blob/main/a/f.py", "https://github.com/o/r/raw/main/a/f.py"),
        ("https://github.com/o/r/blob/feature/x/f.py?plain=1#L3", "https://github.com/o/r/raw/feature/x/f.py"),
        ("https://github.com/o/r/tree/main/pack/", "https://github.com/o/r/raw/main/pack/main.py"),
        ("https://raw.githubusercontent.com/o/r/main/f.py", "https://raw.githubusercontent.com/o/r/main/f.py"),
        ("https://gist.github.com/ada/0123456789abcdef", "https://gist.github.com/ada/0123456789abcdef/raw"),
        ("https://gist.github.com/0123456789abcdef#file-f-py", "https://gist.github.com/0123456789abcdef/raw"),
        ("https://gitlab.com/g/s/r/-/blob/main/f.py", "https://gitlab.com/g/s/r/-/raw/main/f.py"),
        ("https://git.acme.org/g/r/-/tree/v1/pack", "https://git.acme.org/g/r/-/raw/v1/pack/main.py"),
        ("https://gitlab.com/g/r/-/snippets/7", "https://gitlab.com/g/r/-/snippets/7/raw"),
        ("https://codeberg.org/o/r/src/branch/main/f.py", "https://codeberg.org/o/r/raw/branch/main/f.py"),
        ("https://git.acme.org/o/r/src/tag/v1/pack", "https://git.acme.org/o/r/raw/tag/v1/pack/main.py"),
        ("https://bitbucket.org/o/r/src/main/f.py", "https://bitbucket.org/o/r/raw/main/f.py"),
        ("http://127.0.0.1:7102/repo/f.py?raw=1", "http://127.0.0.1:7102/repo/f.py?raw=1"),
    ],
)
def test_a_page_stands_for_its_raw_file(page: str, raw: str) -> None:
    assert raw_address(page) == raw


@pytest.mark.parametrize(
    "url", ["", "not a url", "ftp://h/f.py", "file:///etc/passwd", "//h/f.py", "http://", "http://[x/"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(Invalid, match="http"):
        raw_address(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/repo/greeter.py", "greeter"),
        ("http://h/repo/greeter.py?raw=1", "greeter"),
        ("http://h/repo/main.py", "repo"),
        ("http://h/pack/index.py", "pack"),
        ("http://h/pack/__init__.py", "pack"),
        ("http://h/main_thing.py", "main_thing"),
        ("http://h/a%20b/main.py", "a b"),
        ("http://h/repo/noext", None),
    ],
)
def test_a_function_is_called_as_its_file_or_folder(url: str, name: str | None) -> None:
    assert name_of(url) == name


@pytest.mark.parametrize(
    "url",
    [
        "http://xn--a/x.py",
        "http://xn--/x.py",
        "http://xn--ls8h-/x.py",
        "http://ex..ample/x.py",
        "http://.example/x.py",
        f"http://{'a' * 64}.example/x.py",
        f"http://{'ü' * 80}.example/x.py",
        "http://a\u200d/x.py",
        "http://127.0.0.1/\ud800.py",
    ],
)
def test_a_host_that_can_have_no_such_name_is_told(url: str) -> None:
    with pytest.raises(Invalid, match="cannot be fetched"):
        asyncio.run(fetch(url, 1000))
