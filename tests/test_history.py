"""What git knows of each path: creation, last commit and version, also over merges and rewritten history."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fnsync import labels
from fnsync.errors import RepositoryError
from fnsync.git import command
from fnsync.git.history import touches
from fnsync.git.traces import Touches
from fnsync.git.trailers import Origin, origin_line
from fnsync.git.worktree import WorkTree
from fnsync.model import CommitId
from tests.repositories import BEGIN, Repository

#: Created, last changed (seconds after the tests' beginning of time), last commit, creator.
Seen = tuple[int, int, str, str]


class Known(Repository):
    """A repository that is asked what git knows of it."""

    def touches(self, before: Touches | None = None) -> Touches:
        return touches(WorkTree.ensure(self.functions, self.folder), self.functions, before)

    def seen(self, before: Touches | None = None) -> dict[str, Seen]:
        """What is known of each path; carried on from `before`, it must be what a walk from the beginning finds."""
        found = self.touches()
        if before is not None:
            carried_on = self.touches(before)
            assert carried_on == replace(found, latest=carried_on.latest)
        return seen(found)

    def version(self, source: str, before: Touches | None = None) -> str:
        """The commit that made a function what it is."""
        self.seen(before)
        return self.touches(before).versions[source].commit


def seen(found: Touches) -> dict[str, Seen]:
    return {
        path: ((trace.created_at or 0) - BEGIN, trace.last.at - BEGIN, trace.last.commit, trace.user_id or "")
        for path, trace in found.traces.items()
        if trace.last is not None
    }


def touch(created: int, updated: int, commit: str, user: str = "ada@example.org") -> Seen:
    return created, updated, commit, user


@pytest.fixture
def repository(tmp_path: Path) -> Known:
    return Known(tmp_path / "project")


def test_a_repository_without_commits_has_no_history(repository: Known) -> None:
    assert repository.seen() == {}


def test_first_and_last_commit_of_each_path(repository: Known) -> None:
    first = repository.commit(10, {"a.py": "1", "sub/main.py": "1"})
    second = repository.commit(20, {"a.py": "2"}, by="bob@example.org")
    assert repository.seen() == {
        "a.py": touch(10, 20, second),
        "sub/main.py": touch(10, 10, first),
    }


def test_what_lies_outside_the_functions_folder_is_left_out(repository: Known) -> None:
    repository.commit(10, {"../README.md": "1", "../functions2/a.py": "1", "a.py": "1"})
    assert list(repository.seen()) == ["a.py"]


def test_names_with_spaces_quotes_and_newlines(repository: Known) -> None:
    names = ["a b.py", 'q"uote.py', "new\nline.py", "ünï.py", "M", "\x1ex.py", " lead.py"]
    head = repository.commit(10, dict.fromkeys(names, "1"))
    assert repository.seen() == dict.fromkeys(sorted(names), touch(10, 10, head))


def test_the_trailer_goes_before_the_author(repository: Known) -> None:
    head = repository.commit(10, {"a.py": "1"}, message="Edit a\n\nWhy.\n\nSigned-off-by: x\nFnsync-User: user-17")
    assert repository.seen() == {"a.py": touch(10, 10, head, "user-17")}


def test_what_was_deleted_and_made_anew_is_new(repository: Known) -> None:
    repository.commit(10, {"a.py": "1"})
    repository.commit(20, {"a.py": None})
    before = repository.touches()
    third = repository.commit(30, {"a.py": "1"})
    fourth = repository.commit(40, {"a.py": "2"})
    assert repository.seen(before) == {"a.py": touch(30, 40, fourth)}
    assert third != fourth


def test_a_renamed_file_begins_under_its_new_name(repository: Known) -> None:
    repository.commit(10, {"a.py": "long enough to be recognized\n" * 10})
    repository.git("mv", "functions/a.py", "functions/b.py")
    head = repository.commit(20, {})
    assert repository.seen()["b.py"] == touch(20, 20, head)


def test_a_merged_branch_keeps_its_author(repository: Known) -> None:
    first = repository.commit(10, {"a.py": "1", "b.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    side = repository.commit(20, {"a.py": "2", "c.py": "1"}, by="bob@example.org")
    repository.git("checkout", "-q", "main")
    main = repository.commit(30, {"b.py": "2"})
    before = repository.touches()
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=40, by="merger@example.org")
    expected = {
        "a.py": touch(10, 20, side),
        "b.py": touch(10, 30, main),
        "c.py": touch(20, 20, side, "bob@example.org"),
    }
    assert repository.seen(before) == expected
    assert first != side


def test_a_late_merge_does_not_hide_a_newer_change(repository: Known) -> None:
    base = "".join(f"{n}\n" for n in range(20))
    repository.commit(10, {"a.py": base})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(20, {"a.py": base + "side\n"})
    repository.git("checkout", "-q", "main")
    main = repository.commit(30, {"a.py": "main\n" + base + "side\n"})
    before = repository.touches()
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=40)
    assert repository.seen(before) == {"a.py": touch(10, 30, main)}


def test_a_conflicts_resolution_is_the_merges_own_change(repository: Known) -> None:
    repository.commit(10, {"a.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(20, {"a.py": "side"})
    repository.git("checkout", "-q", "main")
    repository.commit(30, {"a.py": "main"})
    before = repository.touches()
    repository.git("merge", "-q", "side", allowed=(1,))
    merge = repository.commit(40, {"a.py": "both"})
    assert repository.seen(before) == {"a.py": touch(10, 40, merge)}


def test_only_what_is_new_is_walked(repository: Known) -> None:
    first = repository.commit(10, {"a.py": "1", "b.py": "1"})
    before = repository.touches()
    told = {path: replace(trace, created_at=BEGIN + 1, user_id="told") for path, trace in before.traces.items()}
    assert repository.touches(replace(before, traces=told)).traces == told
    second = repository.commit(20, {"a.py": "2"})
    found = repository.touches(replace(before, traces=told))
    assert seen(found) == {"a.py": touch(1, 20, second, "told"), "b.py": touch(1, 10, first, "told")}


def test_a_rewritten_history_is_walked_whole(repository: Known) -> None:
    first = repository.commit(10, {"a.py": "1"})
    repository.commit(20, {"a.py": "2", "b.py": "1"})
    before = repository.touches()
    repository.git("reset", "-q", "--hard", first)
    amended = repository.commit(30, {"a.py": "3"})
    assert repository.seen(before) == {"a.py": touch(10, 30, amended)}
    elsewhere = replace(before, head=CommitId("f" * 40))
    assert repository.seen(elsewhere) == {"a.py": touch(10, 30, amended)}, "a commit that is not there"


def test_a_shallow_clone_begins_where_it_was_cut(repository: Known, tmp_path: Path) -> None:
    repository.commit(10, {"a.py": "1"})
    repository.commit(20, {"b.py": "1"})
    head = repository.commit(30, {"b.py": "2"})
    subprocess.run(["git", "clone", "-q", "--depth=1", repository.folder.as_uri(), str(tmp_path / "clone")], check=True)
    functions = tmp_path / "clone" / "functions"
    found = touches(WorkTree.ensure(functions), functions)
    assert seen(found) == {"a.py": touch(30, 30, head), "b.py": touch(30, 30, head)}


def test_the_users_git_configuration_does_not_matter(repository: Known) -> None:
    head = repository.commit(10, {"ä.py": "1"})
    options = {"log.showSignature": "true", "color.ui": "always", "core.quotePath": "true", "diff.renames": "copies"}
    for name, value in (options | {"log.showRoot": "false", "format.pretty": "oneline"}).items():
        repository.git("config", name, value)
    assert repository.seen() == {"ä.py": touch(10, 10, head)}


def test_a_detached_head_has_its_own_history(repository: Known) -> None:
    first = repository.commit(10, {"a.py": "1"})
    repository.commit(20, {"a.py": "2"})
    repository.git("checkout", "-q", first)
    assert repository.seen() == {"a.py": touch(10, 10, first)}


def test_much_that_git_warns_of_does_not_hold_it_up(
    repository: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' w >&2\nprintf 'one\\0two\\0'\nexit $GIT_ENDS_WITH\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    monkeypatch.setenv("GIT_ENDS_WITH", "0")
    assert list(command.fields(repository.folder, "log")) == [b"one", b"two"]
    monkeypatch.setenv("GIT_ENDS_WITH", "3")
    with pytest.raises(RepositoryError, match="exit code 3: wwww"):
        list(command.fields(repository.folder, "log"))


# ---- which commit made a function what it is --------------------------------------------------------------

CODE = "class Pipe:\n    pass\n"


def test_settings_that_say_how_it_runs_make_no_version(repository: Known) -> None:
    first = repository.commit(10, {"a.py": CODE, "a.yaml": "active: true\n"})
    before = repository.touches()
    repository.commit(20, {"a.yaml": "active: false\nvalves: {name: x}\naccess: {roles: [user]}\n"})
    repository.commit(30, {"a.yaml": None})
    last = repository.commit(40, {"a.yaml": "limits: {timeout: 5s}\n", "_x.py": "1"})
    assert repository.version("a.py", before) == first
    assert repository.seen()["a.yaml"] == touch(40, 40, last)


def test_name_and_meta_make_a_version_when_they_come_change_and_go(repository: Known) -> None:
    repository.commit(10, {"a.py": CODE})
    before = repository.touches()
    for at, text in enumerate(["name: A\n", "name: B\n", "name: B\nmeta: {description: d}\n", None], 20):
        made = repository.commit(at, {"a.yaml": text})
        assert repository.version("a.py", before) == made, text
        repository.commit(at, {"a.yaml": (text or "") + "active: false\n"})
        assert repository.version("a.py", before) == made, text


def test_every_file_of_a_folder_belongs_to_its_function(repository: Known) -> None:
    repository.commit(10, {"a/main.py": CODE, "a/util.py": "1", "a/main.yaml": "name: A\n", "b.py": CODE})
    for at, path in enumerate(["a/util.py", "a/data/x.json", "a/_own.py"], 20):
        made = repository.commit(at, {path: "2"})
        assert repository.version("a/main.py") == made, path
    gone = repository.commit(30, {"a/util.py": None})
    repository.commit(40, {"a/.gitkeep": "", "a/__pycache__/x.pyc": "", "a/main.yaml": "name: A\nactive: false\n"})
    assert repository.version("a/main.py") == gone
    assert repository.touches().removals["a/main.py"].commit == gone


def test_permissions_alone_make_no_version(repository: Known) -> None:
    first = repository.commit(10, {"a.py": CODE})
    (repository.functions / "a.py").chmod(0o755)
    second = repository.commit(20, {})
    assert repository.version("a.py") == first
    assert repository.seen()["a.py"] == touch(10, 20, second)


def test_a_settings_file_that_is_too_large_or_no_text_has_no_name(repository: Known) -> None:
    first = repository.commit(10, {"a.py": CODE, "a.yaml": "name: A\n#" + "x" * labels.MAX_BYTES})
    (repository.functions / "a.yaml").write_bytes(b"name: \xff\n")
    repository.commit(20, {})
    assert repository.version("a.py") == first


def test_a_lost_settings_file_takes_nothing_else_away(repository: Known) -> None:
    repository.commit(10, {"a.py": CODE, "a.yaml": "name: A\n"})
    lost = repository.git("rev-parse", "HEAD:functions/a.yaml")
    head = repository.commit(20, {"a.yaml": "name: B\n"})
    (repository.folder / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    assert repository.version("a.py") == head
    assert repository.seen()["a.py"][:2] == (10, 10)


def test_what_only_a_merge_brought_together_is_its_version(repository: Known) -> None:
    repository.commit(10, {"a/main.py": CODE, "a/util.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(20, {"a/util.py": "2"})
    repository.git("checkout", "-q", "main")
    repository.commit(30, {"a/main.yaml": "name: A\n"})
    before = repository.touches()
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=40)
    assert repository.version("a/main.py", before) == repository.head()


def test_what_a_merge_threw_away_is_no_version(repository: Known) -> None:
    repository.commit(10, {"a.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(30, {"a.py": "side"})
    repository.git("checkout", "-q", "main")
    main = repository.commit(20, {"a.py": "main"})
    before = repository.touches()
    repository.git("merge", "-q", "-s", "ours", "-m", "merge", "side", at=40)
    assert repository.version("a.py", before) == main


def test_a_merge_that_goes_back_behind_what_is_known_is_understood(repository: Known) -> None:
    first = repository.commit(10, {"a.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(15, {"b.py": "1"})
    repository.git("checkout", "-q", "main")
    repository.commit(20, {"a.py": "2"})
    before = repository.touches()
    repository.git("merge", "-q", "--no-ff", "--no-commit", "side")
    repository.commit(30, {"a.py": "1"})
    assert repository.version("a.py", before) == first


def test_what_two_branches_created_began_with_the_later_one(repository: Known) -> None:
    repository.commit(10, {"b.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(20, {"a.py": "1"}, by="bob@example.org")
    repository.git("checkout", "-q", "main")
    main = repository.commit(30, {"a.py": "1"})
    before = repository.touches()
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=40)
    assert repository.seen(before)["a.py"] == touch(30, 30, main)


def test_what_was_made_anew_is_new_also_when_a_branch_is_merged_meanwhile(repository: Known) -> None:
    repository.commit(10, {"a.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(20, {"b.py": "1"})
    repository.git("checkout", "-q", "main")
    before = repository.touches()
    repository.commit(30, {"a.py": None})
    last = repository.commit(40, {"a.py": "1"})
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=50)
    assert repository.seen(before)["a.py"] == touch(40, 40, last)


def test_what_comes_back_from_a_branch_is_who_created_it_theres(repository: Known) -> None:
    repository.commit(10, {"b.py": "1"})
    repository.git("checkout", "-q", "-b", "side")
    side = repository.commit(20, {"a.py": "1"}, by="bob@example.org")
    repository.git("checkout", "-q", "main")
    repository.commit(30, {"a.py": "another"}, message=imported(origin_line("functions/a.py", Origin(1, 1, "zoe"))))
    repository.commit(40, {"a.py": None})
    before = repository.touches()
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side", at=50)
    assert repository.seen(before)["a.py"] == touch(20, 20, side, "bob@example.org")
    assert repository.touches().traces["a.py"].updated is None
    repository.git("merge", "-q", "-s", "ours", "-m", "ours", before.head or "", at=60)
    repository.commit(70, {"a.py": "2"})
    assert repository.seen(before)["a.py"] == touch(20, 70, repository.head(), "bob@example.org")


def test_a_clock_that_goes_back_does_not_change_the_order(repository: Known) -> None:
    repository.commit(30, {"a.py": "1", "b.py": "1"})
    before = repository.touches()
    repository.commit(20, {"a.py": "2"})
    last = repository.commit(10, {"a.yaml": "name: A\n"})
    assert repository.version("a.py", before) == last
    found = repository.touches(before).traces
    orders = [trace.last.order for path in ("b.py", "a.py", "a.yaml") if (trace := found[path]).last]
    assert orders == sorted(set(orders))


# ---- what an import says ---------------------------------------------------------------------------------


def imported(*lines: str) -> str:
    return "\n".join(["Import", "", "Fnsync-User: importer", *lines])


def test_an_import_knows_creation_change_and_owner_better(repository: Known) -> None:
    a = origin_line("functions/a.py", Origin(BEGIN - 50, BEGIN - 40, "ada"))
    b = origin_line("functions/b.py", Origin(updated_at=BEGIN - 7))
    other = origin_line("README.md", Origin(1, 1, "x"))
    head = repository.commit(10, {"a.py": "1", "b.py": "1", "c.py": "1"}, message=imported(a, b, other))
    before = repository.touches()
    assert seen(before) == {
        "a.py": touch(-50, 10, head, "ada"),
        "b.py": touch(10, 10, head, "importer"),
        "c.py": touch(10, 10, head, "importer"),
    }
    assert [before.traces[path].updated for path in ("a.py", "b.py", "c.py")] == [
        (head, BEGIN - 40),
        (head, BEGIN - 7),
        None,
    ]
    repository.commit(20, {"b.py": "2"})
    again = origin_line("functions/a.py", Origin(user_id="bob"))
    third = repository.commit(30, {"a.py": "2"}, message=imported(again))
    assert repository.seen(before)["a.py"] == touch(-50, 30, third, "bob"), "what it does not say stays"
    repository.commit(40, {"a.py": None})
    last = repository.commit(50, {"a.py": "3"})
    assert repository.seen(before)["a.py"] == touch(50, 50, last), "another function of that name"


def test_an_import_of_settings_alone_speaks_for_the_source_too(repository: Known) -> None:
    first = repository.commit(10, {"a.py": "1"})
    before = repository.touches()
    line = origin_line("functions/a.py", Origin(BEGIN - 9, BEGIN - 8, "ada"))
    second = repository.commit(20, {"a.yaml": "active: false\n"}, message=imported(line))
    assert repository.seen(before)["a.py"] == touch(-9, 10, first, "ada")
    assert repository.touches().traces["a.py"].updated == (second, BEGIN - 8)


def test_paths_in_trailers_may_have_any_name(repository: Known) -> None:
    path = "\udcff ä\n/a.py"
    line = origin_line(f"functions/{path}", Origin(BEGIN - 1))
    head = repository.commit(10, {path: "1"}, message=imported(line))
    assert repository.seen() == {path: touch(-1, 10, head, "importer")}
