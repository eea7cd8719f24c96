"""The versions of one function: which commits they are, what they tell, and what no caller can make of them."""

import subprocess
from pathlib import Path

import pytest

from fnsync.errors import NotFound
from fnsync.git.versions import Version, resolve, version, versions
from fnsync.git.worktree import WorkTree
from fnsync.places import settings_of
from tests.repositories import BEGIN, Repository

CODE = "".join(f"# line {n}\n" for n in range(20))


class Told(Repository):
    """A repository that is asked for versions."""

    @property
    def tree(self) -> WorkTree:
        return WorkTree.ensure(self.functions, self.folder)

    def versions(self, source: str, skip: int = 0, limit: int | None = None) -> list[Version]:
        return versions(self.tree, self.functions, source, skip=skip, limit=limit)

    def found(self, source: str) -> list[tuple[str, str]]:
        """Commit and path of each version, newest first."""
        return [(version.commit, version.path) for version in self.versions(source)]

    def move(self, at: int, old: str, new: str, more: str = "") -> str:
        (self.functions / new).parent.mkdir(parents=True, exist_ok=True)
        self.git("mv", f"functions/{old}", f"functions/{new}")
        if more:
            (self.functions / new).write_text((self.functions / new).read_text() + more)
        return self.commit(at, {})

    def move_settings(self, old: str, new: str) -> None:
        """Move the settings file of a source, without a commit."""
        (self.functions / new).parent.mkdir(parents=True, exist_ok=True)
        self.git("mv", f"functions/{settings_of(old)}", f"functions/{settings_of(new)}")


@pytest.fixture
def repository(tmp_path: Path) -> Told:
    return Told(tmp_path / "project")


# ---- which commits ----------------------------------------------------------------------------------------


def test_what_is_in_no_commit_has_no_versions(repository: Told) -> None:
    assert repository.versions("a.py") == [], "an empty repository"
    repository.commit(10, {"b.py": CODE, "a.py/x": "a folder of that name"})
    assert repository.versions("a.py") == []
    (repository.functions / "c.py").write_text(CODE)
    assert repository.versions("c.py") == [], "untracked"
    repository.commit(20, {"b.py": None})
    assert repository.versions("b.py") == [], "deleted"


def test_commits_that_change_what_it_is_are_its_versions(repository: Told) -> None:
    first = repository.commit(10, {"a.py": CODE, "a.yaml": "active: false\n", "_x.py": "1"})
    second = repository.commit(20, {"a.yaml": "active: false\nname: A\n"})
    repository.commit(30, {"a.yaml": "active: true\nvalves: {x: name}\nname: A\n"})
    repository.commit(40, {"_x.py": "2", "b.py": CODE, "ab.py": "2"})
    third = repository.commit(50, {"a.py": CODE + "more\n", "a.yaml": None})
    assert repository.found("a.py") == [(third, "a.py"), (second, "a.py"), (first, "a.py")]
    assert [version.parent for version in repository.versions("a.py")] == [second, first, None]


def test_every_file_beside_a_main_py_counts(repository: Told) -> None:
    first = repository.commit(10, {"a/main.py": CODE, "a/main.yaml": "name: A\n", "a/util.py": "1"})
    helper = repository.commit(20, {"a/data/x.json": "{}"})
    repository.commit(30, {"a/main.yaml": "name: A\nactive: false\n", "a/.hidden": "1"})
    gone = repository.commit(40, {"a/util.py": None})
    assert [commit for commit, _ in repository.found("a/main.py")] == [gone, helper, first]


def test_pages_are_parts_of_the_whole(repository: Told) -> None:
    for at in range(7):
        repository.commit(at, {"a.py": CODE + str(at)})
    whole = repository.versions("a.py")
    assert len(whole) == 7
    pages = [repository.versions("a.py", skip, 3) for skip in (0, 3, 6, 9)]
    assert [len(page) for page in pages] == [3, 3, 1, 0]
    assert sum(pages, []) == whole, "parents across pages too"


def test_commits_of_one_second_are_in_order(repository: Told) -> None:
    made = [repository.commit(10, {"a.py": CODE + str(n), "a.yaml": f"name: N{n}\n"}) for n in range(5)]
    assert [commit for commit, _ in repository.found("a.py")] == made[::-1]


def test_branches_count_and_merges_by_what_is_on_none_of_their_sides(repository: Told) -> None:
    first = repository.commit(10, {"a/main.py": CODE, "a/util.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    side = repository.commit(20, {"a/util.py": "2"})
    repository.git("checkout", "-q", "main")
    repository.commit(25, {"b.py": "1"})
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=30)
    assert [commit for commit, _ in repository.found("a/main.py")] == [side, first]
    repository.git("checkout", "-q", "side")
    named = repository.commit(40, {"a/main.yaml": "name: A\n"})
    repository.git("checkout", "-q", "main")
    main = repository.commit(50, {"a/main.py": CODE + "more\n"})
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=60)
    both = repository.head()
    assert [commit for commit, _ in repository.found("a/main.py")] == [both, main, named, side, first]


# ---- under which names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"), [("a.py", "b.py"), ("a.py", "a/main.py"), ("a/main.py", "a.py"), ("a.py", "team/x/a.py")]
)
@pytest.mark.parametrize("more", ["", "# an edit\n"])
def test_a_rename_is_followed_also_with_an_edit(repository: Told, old: str, new: str, more: str) -> None:
    first = repository.commit(10, {old: CODE})
    second = repository.commit(20, {settings_of(old): "name: A\n"})
    repository.move_settings(old, new)
    moved = repository.move(30, old, new, more)
    last = repository.commit(40, {new: CODE + "# last\n"})
    assert repository.found(new) == [(last, new), (moved, new), (second, old), (first, old)]


def test_settings_that_move_later_than_the_source_bring_the_name_back(repository: Told) -> None:
    first = repository.commit(10, {"a.py": CODE, "a.yaml": "name: A\n"})
    moved = repository.move(20, "a.py", "b.py")
    named = repository.move(30, "a.yaml", "b.yaml")
    assert [commit for commit, _ in repository.found("b.py")] == [named, moved, first]


def test_another_function_of_the_same_name_is_not_mixed_in(repository: Told) -> None:
    repository.commit(1, {"b.py": "something else\n" * 9})
    repository.commit(2, {"b.py": "something else\n" * 8})
    repository.commit(3, {"b.py": None})
    first = repository.commit(10, {"a.py": CODE})
    moved = repository.move(20, "a.py", "b.py")
    other = repository.commit(30, {"a.py": "another one\n" * 9})
    assert repository.found("b.py") == [(moved, "b.py"), (first, "a.py")]
    assert repository.found("a.py") == [(other, "a.py")]
    back = repository.commit(40, {"a.py": None})
    again = repository.move(50, "b.py", "a.py")
    assert repository.found("a.py") == [(again, "a.py"), (moved, "b.py"), (first, "a.py")]
    assert back not in dict(repository.found("a.py"))


def test_what_was_deleted_and_made_anew_is_new(repository: Told) -> None:
    repository.commit(10, {"a.py": CODE})
    repository.commit(20, {"a.py": None})
    made = repository.commit(30, {"a.py": CODE})
    assert repository.found("a.py") == [(made, "a.py")]


def test_a_helper_or_shared_module_that_became_a_function_begins_there(repository: Told) -> None:
    repository.commit(10, {"a/main.py": "1", "a/util.py": CODE, "_shared.py": CODE.replace("line", "row")})
    helper = repository.move(20, "a/util.py", "util.py")
    shared = repository.move(30, "_shared.py", "shared.py")
    assert repository.found("util.py") == [(helper, "util.py")]
    assert repository.found("shared.py") == [(shared, "shared.py")]


def test_a_branch_that_went_on_under_the_old_name_counts(repository: Told) -> None:
    first = repository.commit(10, {"a.py": CODE, "z.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    moved = repository.move(20, "a.py", "b.py")
    repository.git("checkout", "-q", "main")
    main = repository.commit(30, {"a.py": "# on main\n" + CODE})
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=40)
    merge = repository.head()
    assert repository.found("b.py") == [(merge, "b.py"), (main, "a.py"), (moved, "b.py"), (first, "a.py")]


def test_what_only_a_merge_makes_look_renamed_is_not(repository: Told) -> None:
    repository.commit(10, {"a.py": CODE})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(20, {"a.py": None})
    made = repository.commit(30, {"b.py": CODE})
    repository.git("checkout", "-q", "main")
    repository.commit(40, {"z.py": "1"})
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=50)
    assert repository.found("b.py") == [(made, "b.py")]


def test_a_merge_does_not_mix_in_what_looks_like_an_old_name(repository: Told) -> None:
    first = repository.commit(10, {"a.py": CODE, "copy.py": CODE})
    repository.git("checkout", "-q", "-b", "side")
    moved = repository.move(20, "a.py", "b.py")
    repository.commit(30, {"copy.py": None})
    repository.git("checkout", "-q", "main")
    repository.commit(40, {"a.py": None})
    repository.commit(50, {"copy.py": CODE + "# of the other function\n"})
    repository.git("merge", "-q", "--no-commit", "side", allowed=(0, 1))
    repository.commit(60, {"b.py": CODE, "copy.py": None})
    assert repository.found("b.py") == [(moved, "b.py"), (first, "a.py")]


# ---- what they tell ---------------------------------------------------------------------------------------


def test_a_version_tells_who_when_and_why(repository: Told) -> None:
    message = "Héllo\n\nWhy.\n\nSigned-off-by: Zoë\nFnsync-User: user-1\nFnsync-Origin: created=1 path=functions/a.py"
    commit = repository.commit(10, {"a.py": CODE}, by="zoe@example.org", message=message)
    second = repository.commit(20, {"a.py": CODE + "2"})
    assert repository.versions("a.py") == [
        Version(second, commit, "m", "A", "ada@example.org", None, BEGIN + 20, "a.py"),  # type: ignore[arg-type]
        Version(
            commit, None, "Héllo\n\nWhy.\n\nSigned-off-by: Zoë", "A", "zoe@example.org", "user-1", BEGIN + 10, "a.py"
        ),  # type: ignore[arg-type]
    ]


def test_messages_in_other_encodings_and_with_odd_characters(repository: Told) -> None:
    repository.git("config", "i18n.commitEncoding", "ISO-8859-1")
    file = repository.folder / "message"
    file.write_bytes("Ünïcode\n\n\x1d\x1e\x1f \x01".encode("latin-1"))
    repository.commit(10, {"a.py": CODE})
    repository.git("commit", "-q", "--amend", "-F", str(file), "--cleanup=verbatim")
    assert [version.message for version in repository.versions("a.py")] == ["Ünïcode\n\n\x1d\x1e\x1f \x01"]


@pytest.mark.parametrize(
    "name", ["a b.py", 'q"uote.py', "new\nline.py", "ünï.py", "*.py", "\udcff.py", ":(top)x.py", "-x.py"]
)
def test_names_of_any_kind(repository: Told, name: str) -> None:
    first = repository.commit(10, {name: CODE, "other.py": "1"})
    repository.commit(20, {"other.py": "2"})
    moved = repository.move(30, name, "plain.py")
    assert repository.found("plain.py") == [(moved, "plain.py"), (first, name)]
    repository.move(40, "plain.py", name)
    assert len(repository.found(name)) == 3


def test_the_functions_folder_may_be_the_repository_itself(tmp_path: Path) -> None:
    repository = Told(tmp_path / "project")
    tree = WorkTree(repository.folder, repository.folder)
    first = repository.commit(10, {"../a.py": CODE})
    found = versions(tree, repository.folder, "a.py")
    assert [(version.commit, version.path) for version in found] == [(first, "a.py")]


def test_a_shallow_clone_begins_where_it_was_cut(repository: Told, tmp_path: Path) -> None:
    repository.commit(10, {"a.py": CODE})
    cut = repository.commit(20, {"b.py": "1"})
    head = repository.commit(30, {"a.py": CODE + "2"})
    subprocess.run(["git", "clone", "-q", "--depth=2", repository.folder.as_uri(), str(tmp_path / "clone")], check=True)
    functions = tmp_path / "clone" / "functions"
    assert [version.commit for version in versions(WorkTree.ensure(functions), functions, "a.py")] == [head, cut]


def test_the_users_git_configuration_does_not_matter(repository: Told) -> None:
    first = repository.commit(10, {"ä.py": CODE})
    moved = repository.move(20, "ä.py", "ö.py")
    options = {"log.showSignature": "true", "color.ui": "always", "core.quotePath": "true", "diff.renames": "false"}
    more = {"log.showRoot": "false", "format.pretty": "oneline", "diff.renameLimit": "1", "log.follow": "true"}
    for option, value in (options | more).items():
        repository.git("config", option, value)
    assert repository.found("ö.py") == [(moved, "ö.py"), (first, "ä.py")]


def test_a_long_history_is_told_with_few_git_processes(
    repository: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for at in range(60):
        repository.commit(at, {"a.py": f"{at}\n", f"other{at % 5}.py": f"{at}\n"})
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(trace))

    assert len(repository.versions("a.py", limit=20)) == 20

    assert trace.read_text().count('"event":"start"') <= 6


# ---- what names a version ---------------------------------------------------------------------------------


def test_a_full_or_shortened_hash_names_a_commit(repository: Told) -> None:
    first = repository.commit(10, {"a.py": CODE})
    for text in (first, first[:7], first[:12].upper()):
        assert resolve(repository.tree, text) == first
        assert version(repository.tree, repository.functions, "a.py", text).commit == first


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "HEAD",
        "main",
        "--all",
        "-x",
        "0" * 65,
        "abcd\n",
        "../x",
        "abcd:functions/a.py",
        "٣٣٣٣",
        "beef beef",
        "@{1}",
    ],
)
def test_what_is_no_hash_names_nothing(repository: Told, text: str) -> None:
    repository.commit(10, {"a.py": CODE})
    with pytest.raises(NotFound, match="hexadecimal"):
        resolve(repository.tree, text)


def test_what_is_no_commit_or_not_there_names_nothing(repository: Told) -> None:
    head = repository.commit(10, {"a.py": CODE})
    repository.git("tag", "-a", "-m", "t", "beef")
    repository.git("branch", "dead")
    tag, blob, tree = (
        repository.git("rev-parse", name) for name in ("refs/tags/beef", "HEAD:functions/a.py", "HEAD^{tree}")
    )
    for text in (tag, blob, tree, tree[:10]):
        with pytest.raises(NotFound, match="names no commit"):
            resolve(repository.tree, text)
    for text in ("f" * 40, "beef", "dead", head + "0"):
        with pytest.raises(NotFound, match="no commit of this repository"):
            resolve(repository.tree, text)


def test_an_ambiguous_hash_asks_for_more_digits(repository: Told) -> None:
    lines = []
    for n in range(1200):
        lines += ["commit refs/heads/main", f"committer C <c@example.org> {n} +0000", "data 1", "m"]
    script = "\n".join([*lines, ""]).encode()
    subprocess.run(["git", "-C", str(repository.folder), "fast-import", "--quiet"], input=script, check=True)
    hashes = sorted(repository.git("rev-list", "main").split())
    pairs = [(one, two) for one, two in zip(hashes, hashes[1:], strict=False) if one[:4] == two[:4]]
    one, two = pairs[0]
    with pytest.raises(NotFound, match="ambiguous") as caught:
        resolve(repository.tree, one[:4])
    assert caught.value.hint == "give more digits"
    assert [resolve(repository.tree, one), resolve(repository.tree, two)] == [one, two]


def test_a_commit_of_another_function_is_no_version_of_it(repository: Told) -> None:
    repository.commit(10, {"a.py": CODE})
    other = repository.commit(20, {"b.py": CODE})
    with pytest.raises(NotFound, match=r"no version of a\.py"):
        version(repository.tree, repository.functions, "a.py", other)


def test_a_repository_with_longer_hashes(tmp_path: Path) -> None:
    repository = Told(tmp_path / "project", "--object-format=sha256")
    first = repository.commit(10, {"a.py": CODE})
    moved = repository.move(20, "a.py", "b.py")
    assert len(first) == 64
    assert repository.found("b.py") == [(moved, "b.py"), (first, "a.py")]
    assert resolve(repository.tree, first) == resolve(repository.tree, first[:8]) == first
