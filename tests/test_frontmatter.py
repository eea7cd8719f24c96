"""What the top of a source file tells, for the files people have."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fnsync.errors import SourceError
from fnsync.source import frontmatter, requirements

LINES = '"""\ntitle: Translate\nauthor: Ada\nversion: 1.10\nrequirements: httpx, rich>=13,<14\n"""\n'


def entries(text: str) -> dict[str, object]:
    return dict(frontmatter.parse(text).entries)


def test_lines_are_read_as_open_webui_reads_them() -> None:
    found = frontmatter.parse(LINES)

    assert found.form == "line"
    assert found.entries == {
        "title": "Translate",
        "author": "Ada",
        "version": "1.10",
        "requirements": "httpx, rich>=13,<14",
    }
    assert found.requirements == ("httpx", "rich>=13,<14")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("title: A", {"title": "A"}),
        ("  Title:A  ", {"Title": "A"}),
        ('title: "A"', {"title": '"A"'}),
        ("url: https://example.org/a:b", {"url": "https://example.org/a:b"}),
        ("title:", {"title": ""}),
        ("title : A", {}),
        ("my-title: A", {}),
        ("a1: A", {}),
        ("two words: A", {}),
        ("a.b: A", {}),
        ("- item", {}),
        ("tïtle: A", {}),
        ("Note: prose becomes a key", {"Note": "prose becomes a key"}),
    ],
)
def test_a_line_counts_when_it_is_a_key_and_a_colon(line: str, expected: dict[str, str]) -> None:
    assert entries(f'"""\n{line}\n"""\n') == expected


PIPELINE = "class Pipeline:\n    pass\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"""\nTitle: A\nRequirements : httpx\n"""\n', {"title": "A", "requirements": "httpx"}),
        ('"""Title: A\nauthor: B\n"""\n', {"title": "A", "author": "B"}),
        ('"""\n---\nTitle: A\n---\n"""\n', {"Title": "A"}),
    ],
)
def test_keys_of_pipelines_are_read_as_their_own_server_reads_them(text: str, expected: dict[str, str]) -> None:
    assert entries(text + PIPELINE) == expected
    assert entries(text + PIPELINE + "class Pipe:\n    pass\n") == entries(text)


def test_the_last_of_equal_keys_wins_and_case_tells_keys_apart() -> None:
    assert entries('"""\ntitle: A\nTitle: B\ntitle: C\n"""') == {"title": "C", "Title": "B"}


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff"""\ntitle: A\n"""\n',
        '\n\n"""\ntitle: A\n"""\n',
        '#!/usr/bin/env python\n# by me\n\n"""\ntitle: A\n"""\n',
        "'''\ntitle: A\n'''\n",
        'r"""\ntitle: A\n"""\n',
        "R'''\ntitle: A\n'''\n",
        '"""\r\ntitle: A\r\n"""\r\n',
        '  """  \ntitle: A\n"""\n',
        '"""\ntitle: A\nversion: 2"""\n',
    ],
)
def test_what_may_stand_before_and_around_the_lines(text: str) -> None:
    assert entries(text) == {"title": "A"}


@pytest.mark.parametrize(
    "text",
    ['"""title: A"""\n', '"""title: A\nauthor: B\n"""\n', 'import os\n"""\ntitle: A\n"""\n', "", "x = 1\n", '"""\n"""'],
)
def test_what_is_no_frontmatter(text: str) -> None:
    assert frontmatter.parse(text).form == "none"
    assert entries(text) == {}


def test_yaml_between_rulers() -> None:
    text = '"""\n\n---\ntitle: "A: B"\nversion: 1.10\ndate: 2024-01-02\nnumber: 3\nopen: true\n'
    text += "tags: [a, b]\nrequirements:\n  - httpx\n  - pkg[a,b]>=1,<2\n---\nProse: here\n"
    found = frontmatter.parse(text + '"""\n')

    assert found.form == "yaml"
    assert found.requirements == ("httpx", "pkg[a,b]>=1,<2")
    assert found.entries["title"] == "A: B"
    assert found.entries["version"] == "1.10"
    assert found.entries["date"] == "2024-01-02"
    assert found.entries["number"] == "3"
    assert found.entries["open"] is True
    assert found.entries["tags"] == ["a", "b"]
    assert "Prose" not in found.entries


def test_yaml_may_begin_and_end_at_the_quotes() -> None:
    assert entries('"""---\ntitle: A\n---"""\n') == {"title": "A"}


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ('"""\n---\ntitle: A\n"""\n', 2, "closes"),
        ('# one\n"""\n---\ntitle: A\nb: [\n---\n"""\n', 6, "no YAML"),
        ('"""\n---\na: 1\na: 2\n---\n"""\n', 4, "twice"),
        ('"""\n---\n- a\n---\n"""\n', 3, "mapping"),
        ('"""\n---\na: &x 1\nb: *x\n---\n"""\n', 4, "aliases"),
        ('"""\n---\nrequirements: {a: b}\n---\n"""\n', 3, "list of texts"),
        ('"""\n---\nrequirements:\n  - httpx\n  - a b\n---\n"""\n', 5, "a b"),
        ('"""\ntitle: A\nrequirements: httpx, foo bar\n"""\n', 3, "foo bar"),
        ('"""\nrequirements: --index-url https://example.org\n"""\n', 2, "--index-url"),
        ('"""\nrequirements: ./local\n"""\n', 2, "./local"),
        ("# /// script\n# dependencies = [\n# ///\n", 2, "TOML"),
        ("x = 1\n# /// script\n# dependencies = 'a'\n# ///\n", 3, "list of texts"),
        ('# /// script\n# dependencies = [\n#   "httpx",\n#   "a b",\n# ]\n# ///\n', 4, "a b"),
        ('# /// script\n# requires-python = "new"\n# ///\n', 2, "specifier"),
        ("# /// script\n# ///\n\n# /// script\n# a = 1\n# ///\n", 5, "two"),
    ],
)
def test_an_error_names_the_line_and_the_thing(text: str, line: int, part: str) -> None:
    with pytest.raises(SourceError) as caught:
        frontmatter.parse(text)

    assert part in str(caught.value)
    assert caught.value.problem.line == line


def test_a_script_block_adds_requirements() -> None:
    block = '# /// script\n# requires-python = ">=3.11"\n'
    block += '# dependencies = [\n#   "httpx",\n#\n#   "polars[all]>=1,<2",\n'
    found = frontmatter.parse(LINES + block + "# ]\n# ///\n# more\n")

    assert found.requirements == ("httpx", "rich>=13,<14", "polars[all]>=1,<2")
    assert found.requires_python == ">=3.11"


def test_an_unclosed_script_block_is_a_comment() -> None:
    assert frontmatter.parse('# /// script\n# dependencies = ["a"]\nx = 1\n').requirements == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (" , ,", ()),
        ("None", ()),
        ("os, requests, difflib, dataclasses-json", ("requests", "dataclasses-json")),
        ("none, N/A", ()),
        ("[list, of, packages]", ()),
        ("<your, packages>", ()),
        ("httpx, [none]", ("httpx",)),
        ("a,b , c", ("a", "b", "c")),
        ("a, a", ("a",)),
        ("pkg[a,b], other", ("pkg[a,b]", "other")),
        ("pkg>=1,<2, other == 1.0", ("pkg>=1,<2", "other == 1.0")),
        ("pkg (>=1,<2),b", ("pkg (>=1,<2)", "b")),
        ('a; python_version in "3.11,3.12", b', ('a; python_version in "3.11,3.12"', "b")),
        ("git+https://example.org/a.git@v1#egg=a,b", ("git+https://example.org/a.git@v1#egg=a", "b")),
        ("a @ git+ssh://git@example.org/a.git, b", ("a @ git+ssh://git@example.org/a.git", "b")),
    ],
)
def test_commas_split_where_a_requirement_ends(text: str, expected: tuple[str, ...]) -> None:
    assert requirements.split(text) == expected


SNIPPETS = st.lists(
    st.one_of(
        st.sampled_from(
            ['"""', "'''", "---", "# /// script", "# ///", "#", "requirements: a, b", "title: A", "a: &x [1]", "b: *x"]
        ),
        st.text(max_size=20),
        st.text(alphabet="[](){}<>,:\"'=!~#\\ \t\x00\x85ab1-", max_size=30),
    ),
    max_size=12,
)


@given(SNIPPETS)
@example(['"""', "---", "[" * 5000, "---", '"""'])
@example(["# /// script", "# a = " + "[" * 5000, "# ///"])
@example(['"""', "---", "a: 1_", "b: 0b", "c: .nan", "d: !!binary x", "---", '"""'])
@example(["# /// script", "# a = 99-99-99", "# ///"])
def test_any_text_is_read_or_refused(lines: list[str]) -> None:
    try:
        frontmatter.parse("\n".join(lines))
    except SourceError as exc:
        assert exc.problem.message


@given(st.text(alphabet="abc[](){}<>,;:\"'=!~#@/+. 1", max_size=60))
def test_any_list_of_requirements_is_read_or_refused(text: str) -> None:
    try:
        requirements.split(text)
    except requirements.RequirementError as exc:
        assert str(exc)
