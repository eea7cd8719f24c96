"""How two versions of a function differ, in the form that the Functions API's peers answer with."""

import json

from hypothesis import given
from hypothesis import strategies as st

from fnsync.editions import Edition, difference, edition
from fnsync.git.contents import VersionFiles

SOURCE = '"""\ntitle: Greeter\ndescription: Says hello\n"""\n\n\nclass Pipe:\n    pass\n'


def made(source: str | bytes, settings: str | None = None, **helpers: bytes) -> Edition:
    data = source if isinstance(source, bytes) else source.encode()
    text = None if settings is None else settings.encode()
    return edition("greeter.py", VersionFiles({"main.py": data, **helpers}, text))


def test_an_edition_has_the_name_and_meta_of_its_settings_above_those_of_the_source() -> None:
    plain = made(SOURCE)
    assert (plain.name, plain.meta, plain.content) == ("Greeter", {"description": "Says hello"}, SOURCE)
    told = made("\ufeff" + SOURCE, "name: Renamed\nmeta: {description: '', tags: [x]}\nlimits: nonsense\n")
    assert (told.name, told.meta, told.content) == ("Renamed", {"description": "", "tags": ["x"]}, SOURCE)
    bare = edition("team/Greeter/main.py", VersionFiles({"main.py": b'"""\n---\nbroken: ['}, b"name: ["))
    assert (bare.name, bare.meta) == ("greeter", {"description": ""})


def test_a_diff_is_in_the_recorded_form() -> None:
    before = made(
        '"""\ntitle: Greeter\nauthor: wire\nversion: 0.1.0\nlicense: MIT\ndescription: Says hello\n"""\n\n\n'
        'class Pipe:\n    def pipe(self, body):\n        return "hello"\n',
        "meta: {description: ''}\n",
    )
    after = made(before.content.replace('"hello"', '"hi"'), "name: Renamed\nmeta: {description: new text}\n")
    assert difference(before, after) == {
        "metadata": {
            "name": {"before": "Greeter", "after": "Renamed"},
            "meta": {"before": {"description": ""}, "after": {"description": "new text"}},
        },
        "content_diff": (
            "--- selected.py\n+++ production.py\n@@ -9,4 +9,4 @@\n \n class Pipe:\n     def pipe(self, body):\n"
            '-        return "hello"\n+        return "hi"'
        ),
        "line_endings_only": False,
    }
    assert difference(before, before) == {"metadata": {}, "content_diff": "", "line_endings_only": False}


def test_line_endings_alone_are_told_as_such() -> None:
    before, after = made(SOURCE), made(SOURCE.replace("\n", "\r\n"))
    assert difference(before, after) == {"metadata": {}, "content_diff": "", "line_endings_only": True}
    both = difference(made(SOURCE, util=b"1\n"), made(SOURCE.replace("\n", "\r\n"), util=b"2\n"))
    assert both["line_endings_only"] is False


def test_the_source_comes_first_and_other_files_by_their_names() -> None:
    before = made(SOURCE, **{"a.py": b"1\n", "gone": b"x", "same": b"s", "empty": b""})
    after = made(SOURCE + "# more\n", **{"a.py": b"2\n", "z.bin": b"\xff", "same": b"s", "new": b"y\n"})
    assert difference(before, after)["content_diff"].split("\n") == [
        "--- selected.py",
        "+++ production.py",
        "@@ -6,3 +6,4 @@",
        " ",
        " class Pipe:",
        "     pass",
        "+# more",
        "--- a.py",
        "+++ a.py",
        "@@ -1 +1 @@",
        "-1",
        "+2",
        "--- empty",
        "+++ empty",
        "--- gone",
        "+++ gone",
        "@@ -1 +0,0 @@",
        "-x",
        "--- new",
        "+++ new",
        "@@ -0,0 +1 @@",
        "+y",
        "Binary files z.bin and z.bin differ",
    ]


files = st.dictionaries(st.sampled_from(["main.py", "util.py", "x"]), st.binary(max_size=30))
editions = st.builds(
    lambda files, settings: edition("a.py", VersionFiles({"main.py": b"", **files}, settings)),
    files,
    st.none() | st.sampled_from([b"name: A\n", b"meta: {a: 1}\n", b"active: true\n"]),
)


@given(editions, editions)
def test_something_is_told_if_and_only_if_something_differs(before: Edition, after: Edition) -> None:
    told = difference(before, after)
    assert bool(told["content_diff"] or told["line_endings_only"]) == (before.files != after.files)
    assert bool(told["metadata"]) == ((before.name, before.meta) != (after.name, after.meta))
    assert not told["content_diff"].endswith("\n\n")
    json.dumps(told)
