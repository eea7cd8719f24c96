"""What a plan says: how functions differ, what becomes of claims, and how it is shown to people."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fnsync.differences import Difference, differences, shown, traits
from fnsync.model import (
    CommitId,
    FunctionId,
    GoodRevision,
    Kind,
    Limits,
    LiveFunction,
    Manifest,
    Permissions,
    Problem,
    Revision,
    Settings,
    Tree,
    Unit,
)
from fnsync.plan import Known, Policy, Standing, from_good
from fnsync.planning import Draft, Rules, draft, guarded
from fnsync.plantext import MARKDOWN_CHARS, code, lines, to_markdown, to_text
from fnsync.source.catalog import Catalog
from fnsync.source.mounts import outer
from fnsync.syncplan import FunctionChange, SyncPlan

COMMIT = CommitId("c" * 40)
RULES = Rules()
PIPE = "class Pipe:\n    def pipe(self, body):\n        return {!r}\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def units(folder: Path) -> dict[str, Unit]:
    catalog = Catalog(folder)
    catalog.refresh(None)
    return dict(catalog.units)


# ---- how two readings of a function differ ---------------------------------------------------------------------

TUNED = """
from pydantic import BaseModel, Field


class Pipe:
    class Valves(BaseModel):
{fields}

    def pipe(self, body):
        return 1
"""


def tuned(*fields: str) -> str:
    return TUNED.format(fields="\n".join(f"        {field}" for field in fields) or "        pass")


def between(tmp_path: Path, before: dict[str, str], after: dict[str, str], path: str = "f.py") -> list[str]:
    """What is told of a function whose files are those, then these; without that the source differs."""
    old = units(write(tmp_path / "old", before))[path]
    new = units(write(tmp_path / "new", after))[path]
    return [f"{one.what} {one}" for one in differences(old, new) if one.what != "source"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (["a: int = 1"], ["a: int = 1"], []),
        (["a: int = 1"], ["a: int = 1", "b: str = 'x'"], ["valves + b: str = 'x'"]),
        (["a: int = 1"], [], ["valves − a: int = 1"]),
        (["a: int = 1"], ["a: float = 1"], ["valves a: int = 1 → float = 1"]),
        (["a: int = 1"], ["a: int = True"], ["valves a: int = 1 → int = True"]),
        (["a: int = 1"], ["a: int"], ["valves a: int = 1 → int, required"]),
        (["a: int = 1"], ["a: int = Field(default=1, description='new')"], []),
        (["a: int = 1"], ["a: int = compute()"], ["valves a: int = 1 → int"]),
        (
            ["key: str = 'hunter2'"],
            ["key: str = 'hunter3'"],
            ["valves key: str, a secret → str, a secret, another default"],
        ),
        ([], ["password: str = 'hunter2'"], ["valves + password: str, a secret"]),
        (["a: str = 'x'"], [f"a: str = {'y' * 200!r}"], [f"valves a: str = 'x' → str = '{'y' * 78}…"]),
    ],
)
def test_fields_of_valves(tmp_path: Path, before: list[str], after: list[str], told: list[str]) -> None:
    assert between(tmp_path, {"f.py": tuned(*before)}, {"f.py": tuned(*after)}) == told


SETTINGS = """
active: true
global: true
models: ["gpt-4o"]
valves: {priority: 10, key: {env: NEW_KEY}}
access: {users: [ada@example.org], roles: [user]}
limits: {timeout: 30s, memory: 256MB, concurrency: 8, workers: 2, rate: 60/minute}
permissions: {network: false, write: [out], env: [NEW_KEY]}
required: true
name: Nice
meta: {color: red}
"""


def test_every_key_of_the_settings(tmp_path: Path) -> None:
    source = {"f.py": PIPE.format(1)}
    told = between(tmp_path, {**source, "f.yaml": "valves: {priority: 9}\n"}, {**source, "f.yaml": SETTINGS})
    assert told == [
        "settings + active: yes",
        "settings + global: yes",
        "settings + required: yes",
        "settings + permissions.network: no",
        "settings + models: gpt-4o",
        "settings + permissions.write: out",
        "settings + permissions.env: NEW_KEY",
        "settings + access.users: ada@example.org",
        "settings + access.roles: user",
        "settings + limits.timeout: 30s",
        "settings + limits.memory: 256MB",
        "settings + limits.concurrency: 8",
        "settings + limits.workers: 2",
        "settings + limits.rate: 60/1m",
        "settings valves.priority",
        "settings + valves.key",
        "settings + name: Nice",
        "settings + meta.color",
    ]
    none = between(
        tmp_path / "b", {**source, "f.yaml": "access: {users: [a@b.c]}\n"}, {**source, "f.yaml": "access: {}\n"}
    )
    assert none == ["settings + access: admins only", "settings − access.users: a@b.c"]


def test_values_of_valves_are_never_told(tmp_path: Path) -> None:
    source = {"f.py": tuned("plain: str = ''")}
    before = {**source, "f.yaml": "valves: {plain: hunter2, other: {secret: gAAAold}}\n"}
    after = {**source, "f.yaml": "valves: {plain: hunter3, other: {secret: gAAAnew}}\n"}
    assert between(tmp_path, before, after) == ["settings valves.plain", "settings valves.other"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"f.yaml": "active: true\n"}, {"f.yaml": "actve: true\n"}, ["settings file"]),
        ({}, {"f.yaml": "{}\n"}, ["settings + file"]),
        ({"f.yaml": "{}\n"}, {}, ["settings − file"]),
    ],
)
def test_a_settings_file_that_comes_goes_or_breaks(
    tmp_path: Path, before: dict[str, str], after: dict[str, str], told: list[str]
) -> None:
    source = {"f.py": PIPE.format(1)}
    assert between(tmp_path, {**source, **before}, {**source, **after}) == told


def test_files_and_shared_modules(tmp_path: Path) -> None:
    source = (
        "from _text import up\nfrom . import helper\nclass Pipe:\n    def pipe(self, body):\n        return up(1)\n"
    )
    before = {"f/main.py": source, "f/helper.py": "A = 1\n", "f/data.txt": "x", "_text/__init__.py": "up = str\n"}
    after = {
        "f/main.py": source,
        "f/helper.py": "A = 2\n",
        "f/more.txt": "y",
        "_text/__init__.py": "from .deep import up\n",
        "_text/deep.py": "up = str\n",
    }
    assert between(tmp_path, before, after, "f/main.py") == [
        "helpers − data.txt",
        "helpers helper.py",
        "helpers + more.txt",
        "shared _text/__init__.py",
        "shared + _text/deep.py",
    ]


BEFORE = '''"""
title: A
version: 1.0
requirements: httpx>=0.20, rich
"""
class Pipe:
    def pipe(self, body):
        pass

    def pipes(self):
        pass
'''
AFTER = '''"""
title: A
version: 2.0
note: |x
requirements: HTTPX>=0.28, git+https://ada:t0ken@h.example/x.git
"""
class Filter:
    async def inlet(self, body, __user__, **kwargs):
        pass
'''


def test_handlers_kind_frontmatter_and_requirements(tmp_path: Path) -> None:
    told = between(tmp_path, {"f.py": BEFORE}, {"f.py": AFTER})
    assert told == [
        "kind kind: pipe → filter",
        "requirements httpx: httpx>=0.20 → HTTPX>=0.28",
        "requirements + git+https://h.example/x.git",
        "requirements − rich",
        "handlers + inlet: (body, __user__, **) async",
        "handlers − pipe: (body)",
        "handlers − pipes: ()",
        "frontmatter + note",
        "frontmatter version: 1.0 → 2.0",
    ]
    assert "t0ken" not in "".join(told)


def test_a_source_that_cannot_be_parsed_tells_nothing_of_its_class(tmp_path: Path) -> None:
    assert between(tmp_path, {"f.py": tuned("a: int = 1")}, {"f.py": "class Pipe(:\n"}) == []
    assert between(tmp_path / "back", {"f.py": "class Pipe(:\n"}, {"f.py": tuned("a: int = 1")}) == []


def test_what_a_new_function_needs_may_and_offers(tmp_path: Path) -> None:
    folder = write(tmp_path, {"f.py": tuned("a: int"), "f.yaml": "permissions: {env: [HOME]}\nlimits: {memory: 1GB}\n"})
    assert [f"{one.what} {one}" for one in traits(units(folder)["f.py"])] == [
        "valves + a: int, required",
        "handlers + pipe: (body)",
        "settings + permissions.env: HOME",
        "settings + limits.memory: 1GB",
    ]


# ---- what becomes of claims ------------------------------------------------------------------------------------


class Here:
    """What is there now, as the reconciler would know it: everything that can be served is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.units: list[Unit] = []
        self.standings: dict[FunctionId, Standing] = {}

    def have(self, tree: Tree, files: dict[str, str], *, live: bool = True) -> None:
        write(tree.folder, files)
        for unit in units(tree.folder).values():
            seen = outer(unit, tree.source, tree.prefix)
            self.units.append(seen)
            if live and seen.problem is None and seen.id not in self.standings:
                self.standings[seen.id] = Standing(seen, live=serving(seen))

    def drafts(self, tree: Tree, changed: set[str] | None = None, rules: Rules = RULES) -> list[Draft]:
        policy = Policy(denied_imports=("socket",))
        return draft(tree, changed, Known(tuple(self.units), self.standings), policy, rules)[0]

    def said(self, tree: Tree, changed: set[str] | None = None) -> dict[str, str]:
        """Path -> action, with a star where only a worker can tell more."""
        return {one.change.path: one.change.action + ("*" if one.unit else "") for one in self.drafts(tree, changed)}


def serving(unit: Unit) -> LiveFunction:
    assert unit.revision is not None
    good = GoodRevision(
        unit.id, unit.revision, unit.path, unit.entry, "base", Manifest(Kind.PIPE), unit.frontmatter, unit.settings
    )
    return from_good(good, unit, Limits(), True, None)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def tree(here: Here, name: str, source: str = "local", prefix: str = "") -> Tree:
    folder = here.root / name
    folder.mkdir(exist_ok=True)
    return Tree(source, prefix, folder, COMMIT, here.root, ".")


ONE, TWO = PIPE.format(1), PIPE.format(2)


def test_each_action(here: Here) -> None:
    here.have(tree(here, "old"), {"same.py": ONE, "other.py": ONE, "gone.py": ONE, "tuned.py": ONE, "moved.py": ONE})
    new = tree(here, "new")
    write(new.folder, {"same.py": ONE, "other.py": TWO, "come.py": ONE, "tuned.py": ONE, "sub/moved.py": ONE})
    write(new.folder, {"tuned.yaml": "limits: {timeout: 3s}\n"})
    assert here.said(new) == {
        "same.py": "unchanged",
        "other.py": "changed*",
        "gone.py": "removed",
        "come.py": "added*",
        "tuned.py": "changed",
        "sub/moved.py": "changed",
    }
    moved = next(one.change for one in here.drafts(new) if one.change.id == "moved")
    assert moved.changes == ("path",) and moved.live and str(moved.details[0]) == "path: moved.py → sub/moved.py"


def test_only_what_changed_is_read(here: Here) -> None:
    """All other files are not even there."""
    here.have(
        tree(here, "old"), {f"f{n}.py": ONE for n in range(5)} | {"a/main.py": "import _x\n" + ONE, "_x.py": "A = 1\n"}
    )
    new = tree(here, "new")
    write(new.folder, {"f3.py": TWO, "a/main.py": "import _x\n" + ONE, "_x.py": "A = 2\n"})
    assert here.said(new, {"f3.py", "f4.py", "_x.py"}) == {
        **{f"f{n}.py": "unchanged" for n in range(3)},
        "f3.py": "changed*",
        "f4.py": "removed",
        "a/main.py": "changed*",
    }


def test_what_reading_finds_wrong(here: Here) -> None:
    here.have(tree(here, "old"), {"broken.py": ONE, "always.py": "class Pipe(:\n", "down.py": ONE})
    down = here.standings[FunctionId("down")]
    here.standings[down.unit.id] = replace(down, problem=Problem("load", "it fails", "down.py"))
    new = tree(here, "new")
    write(new.folder, {"broken.py": "class Pipe(:\n", "always.py": "class Pipe(:\n", "down.py": ONE})
    write(new.folder, {"denied.py": "import socket\n" + ONE, "none.py": "x = 1\n", "bad-id.py": ONE})
    drafts, refused = draft(
        new, None, Known(tuple(here.units), here.standings), Policy(denied_imports=("socket",)), RULES
    )
    found = {one.change.id: one.change for one in drafts}
    assert {id: change.error.code for id, change in found.items() if change.error} == {
        "broken": "syntax",
        "always": "syntax",
        "denied": "import_denied",
        "none": "no_class",
        "down": "load",
    }
    assert found[FunctionId("broken")].live and found[FunctionId("always")].action == "unchanged"
    assert not any(one.unit for one in drafts), "nothing of it need be loaded"
    assert [problem.path for problem in refused] == ["bad-id.py"]


def test_a_source_has_its_prefix_and_says_its_name(here: Here) -> None:
    acme = tree(here, "acme1", "acme", "acme_")
    here.have(tree(here, "local"), {"a.py": ONE})
    here.have(acme, {"a.py": ONE, "pack/main.py": ONE, "pack/main.yaml": "{}\n", "gone.py": ONE})
    new = replace(acme, folder=tree(here, "acme2").folder)
    write(
        new.folder, {"a.py": TWO, "pack/main.py": ONE, "pack/main.yaml": "limits: {memory: 1MB}\n", "bad.py": "def\n"}
    )
    for changed in (None, {"a.py", "pack/main.yaml", "gone.py", "bad.py"}):
        drafts = here.drafts(new, changed)
        assert {one.change.id: (one.change.path, one.change.action) for one in drafts} == {
            "acme_a": ("acme:a.py", "changed"),
            "acme_pack": ("acme:pack/main.py", "changed"),
            "acme_gone": ("acme:gone.py", "removed"),
            "acme_bad": ("acme:bad.py", "added"),
        }
        [bad] = [one.change for one in drafts if one.change.error]
        assert bad.error is not None and bad.error.path == "acme:bad.py" and bad.source == "acme"


def test_whose_id_it_is(here: Here) -> None:
    here.have(tree(here, "local"), {"mine.py": ONE, "sub/one.py": ONE})
    here.have(tree(here, "zeta", "zeta"), {"theirs.py": ONE, "late.py": ONE})
    acme = tree(here, "acme", "acme")
    write(acme.folder, {"mine.py": TWO, "theirs.py": TWO, "own.py": TWO, "sub/own.py": TWO})
    assert here.said(acme) == {
        "acme:mine.py": "conflict",
        "acme:theirs.py": "conflict",
        "acme:own.py": "added*",
        "acme:sub/own.py": "conflict",
    }
    errors = {one.change.path: str(one.change.error.message) for one in here.drafts(acme) if one.change.error}
    assert "acme:theirs.py and zeta:theirs.py both claim the id theirs; zeta:theirs.py is used" in errors.values()
    cold = Here(here.root / "cold")
    cold.root.mkdir()
    cold.have(tree(cold, "zeta", "zeta"), {"theirs.py": ONE}, live=False)
    cold.have(tree(cold, "local"), {"mine.py": ONE}, live=False)
    assert cold.said(acme)["acme:mine.py"] == "conflict", "the functions folder goes first"
    assert cold.said(acme)["acme:theirs.py"] == "added*", "then sources by name"


def test_a_claim_that_goes_leaves_the_id_to_another(here: Here) -> None:
    here.have(tree(here, "local"), {"a.py": ONE})
    here.have(tree(here, "acme", "acme"), {"a.py": ONE})
    [gone] = here.drafts(tree(here, "empty"))
    assert (gone.change.action, gone.change.path, gone.change.live) == ("removed", "a.py", True)
    assert gone.change.warnings == ("acme:a.py takes over the id",)
    [other] = here.drafts(tree(here, "empty", "acme"))
    assert (other.change.action, other.change.live, other.change.warnings) == ("removed", False, ())


def test_what_a_source_keeps_or_does_not_take(here: Here) -> None:
    acme = tree(here, "acme", "acme")
    here.have(acme, {"gone.py": ONE, "held.py": ONE})
    new = replace(acme, folder=tree(here, "new").folder)
    write(new.folder, {"held.py": TWO})
    held = outer(units(new.folder)["held.py"], "acme", "")
    assert held.revision is not None
    found = here.drafts(new, None, Rules(prune=False, quarantine={held.id: held.revision}))
    assert {one.change.id: bool(one.unit) for one in found} == {"gone": False, "held": False}
    assert "prune: false" in found[0].change.warnings[0] and "rolled back" in found[1].change.warnings[0]


def test_what_has_left_its_source_and_stays(here: Here) -> None:
    """`prune: false` keeps it, with a unit that stands for its files."""
    acme = tree(here, "acme", "acme")
    here.have(acme, {"gone.py": ONE, "back.py": ONE, "held.py": ONE})
    for index, unit in enumerate(here.units):
        code = "quarantined" if unit.id == "held" else "removed_upstream"
        problem = Problem(code, "…", unit.path)
        if unit.id != "held":
            here.units[index] = replace(unit, parts=(), stamps={}, problem=problem)
        here.standings[unit.id] = replace(here.standings[unit.id], unit=here.units[index], problem=problem)
    new = replace(acme, folder=tree(here, "new").folder)
    write(new.folder, {"back.py": ONE, "held.py": ONE})
    for changed in ({"back.py"}, None):
        kept = {one.change.id: one.change for one in here.drafts(new, changed, Rules(prune=False))}
        assert {id: (change.action, change.error) for id, change in kept.items()} == {
            "gone": ("unchanged", None),
            "back": ("unchanged", None),
            "held": ("unchanged", None),
        }
        pruned = {one.change.id: one.change.action for one in here.drafts(new, changed)}
        assert pruned == {"gone": "removed", "back": "unchanged", "held": "unchanged"}


# ---- secrets of what nobody has merged -------------------------------------------------------------------------


def test_references_that_what_serves_has_not_are_left_out() -> None:
    asked = Settings(
        valves={
            "a": {"env": "A"},
            "b": {"env": "B"},
            "c": {"secret": "x"},
            "d": {"secret": "y"},
            "e": {"f": 1},
            "g": 2,
        },
        permissions=Permissions(env=("A", "HOME"), write=("out",)),
    )
    live = Settings(valves={"z": {"env": "A"}, "y": {"secret": "x"}}, permissions=Permissions(env=("B",)))
    settings, left_out = guarded(asked, live)
    assert settings.valves.keys() == {"a", "b", "c", "e", "g"} and settings.permissions == Permissions(
        env=("A",), write=("out",)
    )
    assert left_out == ("valves.d", "permissions.env: HOME")
    settings, left_out = guarded(asked, None)
    assert settings.valves == {"e": {"f": 1}, "g": 2} and settings.permissions.env == ()
    assert len(left_out) == 6


# ---- the plan as a value ---------------------------------------------------------------------------------------


def change(id: str, action: str, *, live: bool = True, error: str | None = None, **more: object) -> FunctionChange:
    problem = None if error is None else Problem("load", error, f"{id}.py", 3, hint="do it right")
    return FunctionChange(FunctionId(id), f"{id}.py", "local", action, error=problem, live=live, **more)  # type: ignore[arg-type]


def plan(*functions: FunctionChange, **more: object) -> SyncPlan:
    return SyncPlan("local", "feature/x", CommitId("b" * 40), COMMIT, functions, **more)  # type: ignore[arg-type]


def test_totals_gates_and_shares() -> None:
    found = plan(
        change("a", "added", live=False),
        change("b", "changed"),
        change("c", "removed"),
        change("d", "unchanged"),
        change("e", "removed", live=False),
        change("f", "conflict", live=False, error="taken"),
    )
    assert found.totals == {"added": 1, "changed": 1, "removed": 2, "unchanged": 1, "conflict": 1, "failing": 1}
    assert (found.removed, found.live) == (1, 3) and found.removed_share == pytest.approx(1 / 3)
    assert [one.id for one in found.failing] == ["f"]
    assert replace(found, prune=False).removed_share == 0
    assert found.applies("each") and not found.applies("all") and found.is_wrong and not found.is_empty
    good = plan(change("d", "unchanged"))
    assert good.applies("all") and good.is_empty and not good.is_wrong and good.removed_share == 0
    assert not plan(change("d", "unchanged", error="down")).applies("all"), "also one that failed before"
    refused = plan(change("d", "unchanged"), refused=(Problem("id", "no id", "a-b.py"),))
    assert refused.is_wrong and refused.applies("all")
    assert plan().removed_share == 0


def test_json_has_all_of_it() -> None:
    details = (Difference("valves", "a", "changed", "int", "str"), Difference("source", "main.py", "changed"))
    found = plan(change("b", "changed", details=details, error="bad", warnings=("w",)), notes=("n",), loaded=True)
    told = msgspec.json.decode(msgspec.json.encode(found.to_dict()))
    assert told["functions"][0]["changes"] == ["valves", "source"] and told["totals"]["failing"] == 1
    assert told["wrong"] is True and told["gate_all"] is False
    assert msgspec.convert(told, SyncPlan) == found, "commands read it back"


# ---- how it is shown -------------------------------------------------------------------------------------------

NASTY = [
    "a|b",
    "a\\|b",
    "</details><script>alert(1)</script>",
    "@ada #12 !3 https://evil.example www.evil.example",
    "`x` ``y`` `",
    "```",
    "line\nbreak\r\n| x | y |",
    "\x1b[31mred\x1b]0;t\x07",
    "\u202eevil\u2066",
    "[x](javascript:alert(1)) ![i](http://e/x.png)",
    "<!-- ", "&lt;b&gt;", "a\u2028b", "\ud800", "x" * 5000, "~~a~~ **b** _c_ $x$", "\\", "`\\", "|", "",
]  # fmt: skip


def everywhere(text: str) -> SyncPlan:
    """A plan with a text at every place to which one from a file gets."""
    problem = Problem("load", text or "-", text, 3, 4, text, text)
    details = (
        Difference("valves", text, "changed", text, text),
        Difference("settings", text, "added", None, text),
        Difference("frontmatter", text, "removed", text, None),
    )
    function = FunctionChange(FunctionId("a"), text, "local", "changed", details, problem, (text,), live=True)
    return SyncPlan("local", text, None, COMMIT, (function,), (problem,), notes=(text,))


OURS = re.compile(
    r"</?(?:h3|p|blockquote|table|thead|tbody|tr|th|td|code|ul|li|strong)(?: style=\"[a-z:-]*\")?>|<br>"
    r"|</?details>|</?summary>"
)
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@pytest.mark.parametrize("text", NASTY)
def test_nothing_of_a_file_gets_out_of_its_place(text: str) -> None:
    check_shown(text)


@given(st.text(alphabet="`|\\<>&@#*_[]()!~-=\n\r \tax:/.\u202e\x1b", max_size=40))
def test_nothing_at_all_gets_out_of_its_place(text: str) -> None:
    check_shown(text)


def check_shown(text: str) -> None:
    found = everywhere(text)
    shown_lines = to_text(found)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown_lines)
    markdown = to_markdown(found)
    markdown.encode()
    page = MARKDOWN.render(markdown)
    assert "<" not in OURS.sub("", page), page
    assert page.count("<tr>") == 3 and page.count("<table>") == 1, page
    assert [row.count("<td>") for row in page.split("<tr>")[2:]] == [4, 4], page
    outside = re.sub(r"<code>.*?</code>", "", page, flags=re.DOTALL)
    assert not set("@#*~[]|\\`") & set(html.unescape(re.sub(r"<[^>]*>", "", outside))), outside


@pytest.mark.parametrize(
    ("text", "span"), [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a``b`c", "```a``b`c```"), ("", "")]
)
def test_code_spans(text: str, span: str) -> None:
    assert code(text) == span


def test_lines_for_people() -> None:
    details = (Difference("source", "main.py", "changed"), Difference("valves", "to", "changed", "str = 'en'", "str"))
    found = plan(
        change("shout", "changed", details=details),
        change("old", "removed"),
        change("new", "added", live=False, error="SyntaxError: '(' was never closed", warnings=("look",)),
        change("same", "unchanged"),
        notes=("one commit is missing",),
        loaded=True,
    )
    assert to_text(found).splitlines() == [
        "the functions folder at feature/x (bbbbbbbb → cccccccc): 1 added, 1 changed, 1 removed, 1 unchanged; "
        "1 would not go live",
        "  one commit is missing",
        "+ new    added  new.py",
        "    ✗ new.py:3: SyntaxError: '(' was never closed",
        "      do it right",
        "    ! look",
        "~ shout  source, valves  shout.py",
        "    valves        to: str = 'en' → str",
        "− old    removed  old.py",
    ]
    assert [style for _, style in lines(found)][:3] == ["head", "hint", "added"]
    assert "nothing would change, 1 unchanged; read only" in to_text(plan(change("same", "unchanged")))
    assert "no functions" in to_text(plan())


def test_a_message_of_several_lines_stays_together() -> None:
    found = to_text(plan(change("a", "added", live=False, error="uv says:\n  no such package\n  at all"))).splitlines()
    assert found[2:5] == ["    ✗ a.py:3: uv says:", "        no such package", "        at all"]


@pytest.mark.parametrize("count", [0, 1, 300, 3000])
def test_markdown_is_bounded(count: int) -> None:
    details = tuple(Difference("valves", f"field_{n}", "changed", "x" * 80, "y" * 80) for n in range(20))
    found = to_markdown(plan(*(change(f"f{n}", "changed", error="x" * 1000, details=details) for n in range(count))))
    assert len(found) <= MARKDOWN_CHARS
    assert found.count("<details>") == found.count("</details>")
    if count == 3000:
        assert re.search(r"… and \d+ more\.", found)


def test_values_are_cut_and_on_one_line() -> None:
    assert shown("a\n  b") == "a b" and len(shown("x" * 500)) == 80
    assert Revision(shown("https://ada:s3cret@h/x?token=1")) == "https://h/x"
