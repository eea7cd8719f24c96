"""`fnsync history`, `diff` and `rollback`: through a running server, and where none runs."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from fnsync.cli import exits
from tests.commands import Told, run
from tests.conftest import ADMIN_TOKEN, Project, Server
from tests.test_functions_api import say

PIPE = 'class Pipe:\n    def pipe(self, body):\n        return "{}"\n'


def told(project: Project, *arguments: str, text: str | None = None) -> Told:
    return run(project.root, *arguments, text=text, FNSYNC_TOKEN=ADMIN_TOKEN)


def data(project: Project, *arguments: str) -> Any:
    done = told(project, *arguments, "--json")
    assert done.returncode == exits.OK, done.stderr
    return json.loads(done.stdout)


def three(server: Server, id: str) -> list[str]:
    """A function with three versions; their commits, newest first."""
    project = server.project
    made = []
    for number, word in enumerate(("one", "two", "three")):
        server.add(id, PIPE.format(word))
        made.append(project.commit(f"Say {word}\n\nFor the reason number {number}."))
    return made[::-1]


def rows(done: Told) -> list[list[str]]:
    assert done.returncode == exits.OK, done.stderr
    return [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines()[1:]]


# ---- history ---------------------------------------------------------------------------------------------


def test_the_history_tells_what_is_live_and_what_is_in_no_commit(server: Server, fn: str) -> None:
    project = server.project
    third, second, first = three(server, fn)

    found = rows(told(project, "history", fn))
    assert [row[0] for row in found] == [third[:8], second[:8], first[:8]]
    assert [row[2] for row in found] == ["Ada", "Ada", "Ada"]
    assert [row[3:] for row in found] == [["live", "Say three"], ["Say two"], ["Say one"]]
    limited = told(project, "history", fn, "--limit", "2")
    assert len(rows(limited)) == 2
    assert "older ones" in limited.stderr

    server.add(fn, PIPE.format("four"))
    found = rows(told(project, "history", fn))
    assert found[0] == ["-", "-", "-", "live", "what is on disk, in no commit"]
    assert [row[0] for row in found[1:]] == [third[:8], second[:8], first[:8]]
    assert all("live" not in row for row in found[1:])

    # The newest does not load, so what came before serves: what is in no commit is not live, and nor is a version.
    project.write(f"{fn}.py", "class Pipe:\n    def pipe(\n")
    server.settle(fn, "stale")
    stale = told(project, "history", fn)
    assert all("live" not in row for row in rows(stale))
    assert "answers, which is none of these" in stale.stderr

    known = data(project, "history", fn)
    assert (known["uncommitted"], known["disk"]["version"], known["more"]) == (True, None, False)


def test_a_version_that_still_answers_is_found_among_those_before(server: Server, fn: str) -> None:
    third = three(server, fn)[0]
    server.project.write(f"{fn}.py", "class Pipe:\n    def pipe(\n")
    server.settle(fn, "stale")
    broken = server.project.commit("Break it")

    known = data(server.project, "history", fn)

    assert (known["live"]["version"], known["disk"]["version"], known["uncommitted"]) == (third, broken, False)


def test_what_is_not_there_is_named(server: Server, fn: str) -> None:
    server.add(fn, PIPE.format("one"))
    for command in (["history", "nobody_here"], ["diff", "nobody_here"], ["rollback", "nobody_here", "--yes"]):
        done = told(server.project, *command)
        assert (done.returncode, "nobody_here" in done.stderr) == (exits.NOT_FOUND, True), command
    assert [row[4] for row in rows(told(server.project, "history", fn))] == ["what is on disk, in no commit"]
    done = told(server.project, "rollback", fn, "--yes")
    assert (done.returncode, "no version of" in done.stderr) == (exits.NOT_FOUND, True)
    for text in ("abcdef12", "no-hash"):
        unknown = told(server.project, "diff", fn, text)
        assert unknown.returncode == exits.NOT_FOUND and "history of the function lists" in unknown.stderr


# ---- diff ------------------------------------------------------------------------------------------------


def test_a_diff_is_of_what_is_on_disk_and_the_version_before_unless_said_otherwise(server: Server, fn: str) -> None:
    project = server.project
    third, second, first = three(server, fn)

    assert told(project, "diff", fn).stdout == textwrap.dedent(f"""\
        --- {fn}.py @ {second[:8]}
        +++ {fn}.py
        @@ -1,3 +1,3 @@
         class Pipe:
             def pipe(self, body):
        -        return "two"
        +        return "three"
        """)
    known = data(project, "diff", fn, first[:6])
    assert (known["before"], known["after"]) == (first, "disk")
    known = data(project, "diff", fn, third, first)
    assert (known["before"], known["after"]) == (third, first)
    assert '-        return "three"\n+        return "one"' in known["diff"]
    assert data(project, "diff", fn, "before", second)["before"] == first
    known = data(project, "diff", fn, "before", first)
    assert (known["before"], known["after"]) == (None, first)
    assert [(one["what"], one["name"], one["change"]) for one in known["changes"]] == [("handlers", "pipe", "added")]
    assert f"nothing differs between {third[:8]} and what is on disk" in told(project, "diff", fn, third).stderr

    server.add(fn, PIPE.format("four"))
    assert data(project, "diff", fn)["before"] == third


def test_a_diff_has_helpers_that_came_and_went(server: Server, fn: str) -> None:
    project = server.project
    project.write(f"{fn}/helper.py", "A = 1\n")
    project.write(f"{fn}/main.py", "from .helper import A\n\n\nclass Pipe:\n    def pipe(self):\n        return A\n")
    server.settle(fn)
    project.commit("first")
    project.write(f"{fn}/other.py", "B = 2\n")
    project.write(f"{fn}/__pycache__/helper.pyc", "x")
    server.settle(fn)

    assert data(project, "diff", fn)["diff"] == "--- other.py\n+++ other.py\n@@ -0,0 +1 @@\n+B = 2"


def test_a_diff_says_what_it_means(project: Project) -> None:
    valves = "    class Valves(BaseModel):\n        tone: str = {!r}\n\n"
    head = '"""\nrequirements: {}\n"""\n\nfrom pydantic import BaseModel\n\n\nclass Pipe:\n'
    body = "    def pipe(self, body):\n        return 1\n"
    project.write("meant.py", head.format("httpx") + valves.format("plain") + body)
    project.write("meant.yaml", "limits: {timeout: 5s}\nvalves: {tone: geheim}\n")
    project.commit("one")
    project.write("meant.py", head.format("httpx>=1") + valves.format("loud") + body)
    project.write("meant.yaml", "limits: {timeout: 9s}\npermissions: {network: false}\nvalves: {tone: lauter}\n")

    done = told(project, "diff", "meant")
    lines = done.stdout.splitlines()
    said = lines[: lines.index("--- meant.py @ " + project.git("rev-parse", "HEAD")[:8])]
    for words in ("requirements", "valves", "tone", "limits.timeout", "permissions.network"):
        assert any(words in line for line in said), (words, said)
    assert "geheim" not in done.stdout + done.stderr


# ---- rollback --------------------------------------------------------------------------------------------


def test_a_rollback_asks_and_is_one_commit(server: Server, fn: str) -> None:
    project = server.project
    _, second, first = three(server, fn)
    head = project.git("rev-parse", "HEAD")

    refused = told(project, "rollback", fn, text="n\n")
    assert (refused.returncode, project.git("rev-parse", "HEAD")) == (exits.FAILED, head)
    assert f"{fn} goes back to {second[:8]} Say two (Ada)" in refused.stderr
    assert "undone: " in refused.stderr
    nobody = told(project, "rollback", fn, text="")
    assert (nobody.returncode, "--yes" in nobody.stderr) == (exits.FAILED, True)

    done = told(project, "rollback", fn, text="y\n")
    assert done.returncode == exits.OK, done.stderr
    commit = project.git("rev-parse", "HEAD")
    assert done.stdout == f"{fn} is what it was at {second[:8]} again; commit {commit[:8]}\n"
    assert project.git("rev-parse", "HEAD^") == head
    with server.client() as client:
        assert say(client, fn) == "two"

    known = data(project, "rollback", fn, first[:7], "--yes", "--message", "One is enough")
    assert (known["version"], known["commit"]) == (first, project.git("rev-parse", "HEAD"))
    assert project.git("log", "-1", "--format=%s") == "One is enough"
    again = told(project, "rollback", fn, known["commit"][:10], "--yes")
    assert again.stdout == f"{fn} is what it was at {known['commit'][:8]} already\n"


def test_a_rollback_keeps_what_is_in_no_commit_in_one_of_its_own(server: Server, fn: str) -> None:
    project = server.project
    third = three(server, fn)[0]
    server.add(fn, PIPE.format("four"))

    done = told(project, "rollback", fn, text="y\n")

    assert "it is kept in one of its own first" in done.stderr
    assert f"is what it was at {third[:8]} again" in done.stdout
    assert '"four"' in project.git("show", f"HEAD^:functions/{fn}.py")
    assert '"three"' in project.git("show", f"HEAD:functions/{fn}.py")


def test_a_name_that_is_a_source_is_asked_of_the_sources(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.configure("sources: [{name: acme, url: 'https://git.example.org/a.git'}, {name: both, url: 'file:///b'}]\n")
    project.write("both.py", PIPE.format("one"))

    done = told(project, "rollback", "both", "--yes")
    assert (done.returncode, "a source and a function" in done.stderr) == (exits.FAILED, True)
    for arguments in (
        ["acme", "--yes"],
        ["acme", "--unpin"],
        ["other", "--source", "--yes"],
        ["acme", "--release", "x"],
    ):
        assert told(project, "rollback", *arguments).returncode == exits.NO_SERVER, arguments
    assert told(project, "rollback", "acme", "abc", "--unpin").returncode == exits.FAILED


# ---- without a server ------------------------------------------------------------------------------------


def test_without_a_server_the_repository_answers(project: Project) -> None:
    for word in ("one", "two", "three"):
        project.write("quiet.py", PIPE.format(word))
        project.commit(f"Say {word}")
    project.write("quiet.py", PIPE.format("four"))

    assert [row[-1] for row in rows(told(project, "history", "quiet"))] == [
        "what is on disk, in no commit",
        "Say three",
        "Say two",
        "Say one",
    ]
    assert data(project, "history", "quiet")["live"] is None
    assert '+        return "four"' in told(project, "diff", "quiet").stdout
    assert told(project, "history", "nobody").returncode == exits.NOT_FOUND

    done = told(project, "rollback", "quiet", "--yes")
    assert done.returncode == exits.OK, done.stderr
    assert '"three"' in (project.functions / "quiet.py").read_text()
    assert project.git("status", "--porcelain", "functions") == ""


def test_without_a_repository_there_is_no_history(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions/a.py").write_text(PIPE.format("one"))

    done = run(tmp_path, "history", "a")

    assert (done.returncode, "no usable git repository" in done.stderr) == (exits.FAILED, True)
    assert not (tmp_path / ".git").exists()
