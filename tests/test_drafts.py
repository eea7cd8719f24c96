"""What an edit makes of files, before anything is written: parts that fail leave nothing, and what is equal stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnsync.edits.drafts import Content, Draft, Drafting
from fnsync.errors import Conflict, FnsyncError, Invalid
from fnsync.model import FunctionId, Unit
from fnsync.source.reading import read

PIPE = "class Pipe:\n    def pipe(self, body):\n        return 'x'\n"


def drafting(root: Path, *, active: bool = True) -> Drafting:
    """A draft on the functions that are in `root`."""

    def find(id: FunctionId) -> Unit | None:
        return read(root, f"{id}.py").unit if (root / f"{id}.py").exists() else None

    return Drafting(root, find, active)


def unit(root: Path, id: str) -> Unit:
    return read(root, f"{id}.py").unit


def test_of_an_attempt_that_fails_nothing_stays(tmp_path: Path) -> None:
    draft = drafting(tmp_path)

    def fail(part: Drafting) -> None:
        part.create("b", Content("", PIPE))
        assert part.changed == {"b.py", "b.yaml"}
        part.create("a", Content("", PIPE))  # which the draft around it has made

    draft.create("a", Content("", PIPE))
    with pytest.raises(Conflict, match="a.py is there already"):
        draft.attempt(fail)
    assert draft.attempt(lambda part: part.create("c", Content("", PIPE))) == "c"

    made = draft.draft()
    assert set(made.after) == {"a.py", "a.yaml", "c.py", "c.yaml"}
    assert made.ids == ("a", "c") and made.sources == ("a.py", "c.py")


def test_an_attempt_within_an_attempt_sees_what_both_have_made(tmp_path: Path) -> None:
    draft = drafting(tmp_path)

    def outer(part: Drafting) -> None:
        part.create("b", Content("", PIPE))
        for taken in ("a", "b"):
            with pytest.raises(Conflict):
                part.attempt(lambda inner, taken=taken: inner.create(taken, Content("", PIPE)))  # type: ignore[misc]

    draft.create("a", Content("", PIPE))
    draft.attempt(outer)

    assert draft.draft().ids == ("a", "b")


def test_a_source_that_differs_in_its_bom_alone_stays(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\xef\xbb\xbf" + PIPE.encode())
    draft = drafting(tmp_path)

    draft.update(unit(tmp_path, "a"), Content("", PIPE))
    assert draft.draft().after == {}

    draft.update(unit(tmp_path, "a"), Content("", PIPE + "# newer\n"))
    assert draft.draft().after == {"a.py": PIPE.encode() + b"# newer\n"}


@pytest.mark.parametrize("default", [True, False])
def test_flags_that_hold_already_are_not_written(tmp_path: Path, default: bool) -> None:
    (tmp_path / "a.py").write_text(PIPE)
    draft = drafting(tmp_path, active=default)

    draft.set_flags(unit(tmp_path, "a"), active=default, is_global=False)
    assert draft.draft() == Draft({}, {}, ())

    draft.set_flags(unit(tmp_path, "a"), active=not default, is_global=True)
    assert draft.draft().after == {"a.yaml": f"active: {str(not default).lower()}\nglobal: true\n".encode()}


def test_a_settings_file_is_rewritten_as_text_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfactve: old # [\r\n")
    (tmp_path / "b.yaml").write_bytes(b"\xff")
    draft = drafting(tmp_path)

    assert draft.rewrite("a.yaml", lambda text: text.replace("old", "new")) == "actve: new # [\r\n"
    with pytest.raises(Conflict, match="not UTF-8"):
        draft.rewrite("b.yaml", str)

    assert draft.draft().after == {"a.yaml": b"\xef\xbb\xbfactve: new # [\r\n"}
    assert draft.draft().carried == {"a.yaml"}


@pytest.mark.parametrize(("id", "hint"), [("has-dash", "has_dash"), ("a\u00b2", "a"), ("_x", "x"), ("", "function")])
def test_an_id_that_is_none_is_refused_with_one_that_is(tmp_path: Path, id: str, hint: str) -> None:
    with pytest.raises(Invalid) as caught:
        drafting(tmp_path).create(id, Content("", PIPE))

    told: FnsyncError = caught.value
    assert (told.hint or "").removeprefix("for example ") == hint
