"""Name and meta in a settings file: read whatever else stands there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnsync.labels import Labels, read


@pytest.mark.parametrize(
    "text",
    [
        "name: A",
        "'name': A",
        '{"name": "A"}',
        "? name\n: A",
        "name : A",
        '"n\\x61m\\x65": A',
        "\ufeffname: A\r\nactive: true\r\n",
        "nmae: typo\nname: A\nlimits: nonsense",
    ],
)
def test_a_name_is_found_however_it_is_written(text: str) -> None:
    assert read(text.encode()) == Labels("A")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"active: true",
        b"name:",
        b"name: 5",
        b"meta: [1]",
        b"name: [",
        b"\xffname: A",
        b"name: A\nname: B",
        b"- name",
    ],
)
def test_without_a_name_or_meta_that_can_be_read_there_are_none(data: bytes) -> None:
    assert read(data) == Labels()


def test_equal_labels_have_equal_keys_and_others_do_not() -> None:
    assert read(b"meta: {a: 1, b: 2}").key == read(b"# c\nmeta:\n  b: 2\n  a: 1\nactive: false\n").key
    keys = {read(text).key for text in (b"", b"meta: {a: 1}", b"meta: {a: true}", b"meta: {a: '1'}", b"name: a")}
    assert len(keys) == 5


@given(st.binary(max_size=200) | st.text().map(lambda text: f"name: {text}\nmeta: {{}}".encode(errors="replace")))
def test_no_bytes_break_it(data: bytes) -> None:
    assert isinstance(read(data).key, bytes)
