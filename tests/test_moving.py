"""`fnsync import` and `fnsync export`, through a running server and without one."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fnsync.cli import exits, nearby
from fnsync.cli.importing import outcome_table
from fnsync.cli.progress import following, stepping
from fnsync.datafolder import lock
from tests.commands import Told, run, run_program
from tests.conftest import ADMIN_TOKEN, Project, Server
from tests.test_importing import BROKEN, PIPE, TUNED, entry

PIPELINE = """
from pydantic import BaseModel


class Pipeline:
    class Valves(BaseModel):
        api_key: str = ""
        priority: int = 0

    def __init__(self):
        self.name = "Chat"
        self.valves = self.Valves()

    def pipe(self, user_message, model_id, messages, body):
        return user_message
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project where no server has run."""
    root = tmp_path / "alone"
    root.mkdir()
    (root / "fnsync.yaml").write_text("server: {port: 0}\n")
    return root


def put(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def report(told: Told) -> dict[str, str]:
    """Source -> outcome, of a report as JSON."""
    return {one["source"]: one["outcome"] for one in json.loads(told.stdout)["outcomes"]}


# ---- without a server ------------------------------------------------------------------------------------


def test_without_a_server_functions_are_taken_in_and_given_out(folder: Path) -> None:
    export = put(
        folder / "export.json", [entry("a", TUNED, valves={"api_key": "s3cret"}), entry("b-c"), entry("d", BROKEN)]
    )

    told = run(folder, "import", str(export))

    assert told.returncode == exits.FAILED, "one was refused"
    assert [line.split()[:3] for line in told.stdout.splitlines()[1:]] == [
        ["created", "a", "a"],
        ["created", "b_c", "b-c"],
        ["refused", "-", "d"],
    ]
    assert "renamed" in told.stdout and "d.py:2:19: SyntaxError" in told.stdout
    assert told.stderr == f"2 created, 1 refused; commit {git(folder, 'rev-parse', 'HEAD')[:8]}\n"
    assert git(folder, "log", "--format=%an|%s") == "Admin|Import 2 functions from export.json"
    assert "s3cret" not in (folder / "functions/a.yaml").read_text()
    assert not (folder / ".fnsync/server.json").exists()

    again = run(folder, "import", str(export), "--json")
    assert report(again) == {"a": "unchanged", "b-c": "unchanged", "d": "refused"}
    assert json.loads(again.stdout)["commit"] is None
    assert git(folder, "rev-list", "--count", "HEAD") == "1"

    given = run(folder, "export", "-", "a", "--valves")
    [row] = json.loads(given.stdout)
    assert (row["id"], row["valves"], row["created_at"]) == ("a", {"api_key": "s3cret"}, 1_600_000_000)
    assert "secrets among them in clear" in given.stderr


def test_the_options_of_import_are_heard(folder: Path) -> None:
    export = put(folder / "export.json", [entry("a"), entry("b", BROKEN)])
    first = run(folder, "import", str(export), "--broken", "--message", "Take all", "--json")
    assert (first.returncode, report(first)) == (exits.OK, {"a": "created", "b": "created"})
    assert git(folder, "log", "-1", "--format=%s") == "Take all"

    put(export, [entry("a", PIPE.format("two"))])
    assert report(run(folder, "import", str(export), "--json")) == {"a": "skipped"}
    assert report(run(folder, "import", str(export), "--replace", "--json")) == {"a": "updated"}
    assert (folder / "functions/a.py").read_text() == PIPE.format("two")


def test_what_is_there_is_known_also_without_an_index(folder: Path) -> None:
    export = put(folder / "export.json", [entry("a")])
    run(folder, "import", str(export))
    (folder / ".fnsync/index.sqlite3").unlink()
    put(export, [entry("a", PIPE.format("two")), entry("A", PIPE.format("three"), created_at=1)])

    told = run(folder, "import", str(export), "--json")

    assert report(told) == {"a": "skipped", "A": "created"}
    assert (folder / "functions/a.py").read_text() == PIPE.format("one")
    assert (folder / "functions/a_2.py").read_text() == PIPE.format("three")


def test_a_pipelines_folder_is_taken_in_with_its_valves(folder: Path, tmp_path: Path) -> None:
    pipelines = tmp_path / "pipelines"
    put(pipelines / "chat-bot.py", PIPELINE)
    put(pipelines / "chat-bot/valves.json", {"api_key": "s3cret", "priority": 3})
    put(pipelines / "other.py", PIPE.format("x"))

    told = run(folder, "import", str(pipelines), "--json")

    assert told.returncode == exits.FAILED
    assert report(told) == {"chat-bot": "created", "other.py": "refused"}
    assert git(folder, "log", "-1", "--format=%s") == "Import 1 function from pipelines"
    [row] = json.loads(run(folder, "export", "--valves").stdout)
    assert (row["id"], row["type"], row["is_active"]) == ("chat_bot", "pipeline", True)
    assert row["valves"] == {"api_key": "s3cret", "priority": 3}
    text = (folder / "functions/chat_bot.yaml").read_text()
    assert "s3cret" not in text and "priority: 3" in text


def test_a_source_and_stdin_are_taken_in(folder: Path, tmp_path: Path) -> None:
    source = f'"""\nid: shout\ntitle: Shout\n"""\n{PIPE.format("x")}'

    assert report(run(folder, "import", str(put(tmp_path / "any.py", source)), "--json")) == {"shout": "created"}
    assert report(run(folder, "import", "-", "--json", text=source)) == {"shout": "unchanged"}
    assert (folder / "functions/shout.yaml").read_text() == "active: false\n"
    assert git(folder, "log", "--format=%s") == "Import 1 function from any.py"


def test_an_import_that_cannot_be_is_told_and_makes_nothing(folder: Path) -> None:
    told = run(folder, "import", "gone.json")

    assert (told.returncode, told.stdout) == (exits.FAILED, "")
    assert told.stderr.startswith("gone.json cannot be read: No such file or directory\n")
    assert [path.name for path in folder.iterdir()] == ["fnsync.yaml"]


def test_an_export_of_nothing_that_is_there_says_so(tmp_path: Path, folder: Path) -> None:
    elsewhere = tmp_path / "empty"
    elsewhere.mkdir()
    told = run(elsewhere, "export")
    assert told.returncode == exits.NOT_FOUND and "there is no project here" in told.stderr
    assert list(elsewhere.iterdir()) == []

    (folder / "functions").mkdir()
    assert json.loads(run(folder, "export").stdout) == []
    told = run(folder, "export", "-", "nobody")
    assert (told.returncode, told.stderr.splitlines()[0]) == (exits.NOT_FOUND, "there is no function nobody")


# ---- the file --------------------------------------------------------------------------------------------


def test_a_file_with_valves_is_for_its_owner_only(folder: Path, tmp_path: Path) -> None:
    run(folder, "import", str(put(tmp_path / "in.json", [entry("a", TUNED, valves={"api_key": "s3cret"})])))
    out = tmp_path / "out.json"
    out.write_text("an old one that everyone may read")
    out.chmod(0o644)

    told = run(folder, "export", str(out), "--valves")

    assert (told.returncode, told.stdout) == (exits.OK, "")
    assert told.stderr.splitlines()[0] == f"1 function in {out}" and "in clear" in told.stderr.splitlines()[1]
    assert out.stat().st_mode & 0o777 == 0o600
    assert json.loads(out.read_text())[0]["valves"] == {"api_key": "s3cret"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    plain = run(folder, "export", str(tmp_path / "plain.json"))
    assert "in clear" not in plain.stderr
    assert "valves" not in json.loads((tmp_path / "plain.json").read_text())[0]
    assert (tmp_path / "plain.json").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_export_goes_where_it_is_sent_or_says_why_not(folder: Path, tmp_path: Path) -> None:
    run(folder, "import", str(put(tmp_path / "in.json", [entry("a")])))
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")

    assert run(folder, "export", str(tmp_path / "link.json")).returncode == exits.OK
    assert (tmp_path / "link.json").is_symlink() and json.loads((tmp_path / "real.json").read_text())
    assert json.loads(run_program(folder, "export", "/dev/stdout").stdout)[0]["id"] == "a"
    told = run(folder, "export", str(tmp_path))
    assert told.returncode == exits.FAILED and "cannot be written" in told.stderr
    told = run(folder, "export", "a")
    assert told.returncode == exits.FAILED and "fnsync export - a" in told.stderr
    assert not (folder / "a").exists()


# ---- through a server ------------------------------------------------------------------------------------


def test_with_a_server_the_same_goes_through_it(server: Server, fn: str, tmp_path: Path) -> None:
    root, variables = server.project.root, {"FNSYNC_ADMIN_TOKEN": ADMIN_TOKEN}
    export = put(
        tmp_path / "export.json", [entry(fn, TUNED, valves={"retries": 4}), entry(f"{fn}-x"), entry("y", BROKEN)]
    )

    told = run(root, "import", str(export), "--json", **variables)

    assert told.returncode == exits.FAILED
    assert report(told) == {fn: "created", f"{fn}-x": "created", "y": "refused"}
    assert json.loads(told.stdout)["commit"] == server.project.git("rev-parse", "HEAD")
    with server.client() as client:
        asked = {"model": fn, "messages": [{"role": "user", "content": "?"}]}
        assert client.post("/v1/chat/completions", json=asked).status_code == 200

    given = run(root, "export", "-", fn, "--valves", **variables)
    [row] = json.loads(given.stdout)
    assert (row["id"], row["valves"]) == (fn, {"retries": 4})
    unknown = run(root, "export", "-", "nobody", **variables)
    assert (unknown.returncode, unknown.stderr.splitlines()[0]) == (exits.NOT_FOUND, "there is no function nobody")


def test_the_server_may_be_named_and_its_refusals_have_their_exit_codes(server: Server, tmp_path: Path) -> None:
    export = put(tmp_path / "export.json", [])
    for command in (["import", str(export)], ["export"]):
        told = run(tmp_path, *command, "--url", server.url, "--token", "wrong")
        assert told.returncode == exits.UNAUTHORIZED, told
        told = run(tmp_path, *command, "--url", server.url, "--token", server.add_token("user"))
        assert told.returncode == exits.UNAUTHORIZED, told
        told = run(tmp_path, *command, "--url", "http://127.0.0.1:1", "--token", "x")
        assert told.returncode == exits.NO_SERVER and "no server answers at http://127.0.0.1:1" in told.stderr
    told = run(tmp_path, "import", str(export), "--url", server.url, "--token", server.token)
    assert (told.returncode, told.stderr) == (exits.OK, "nothing to import\n")


def test_what_the_whole_import_is_refused_for_is_told_also_while_progress_is(
    project: Project, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    project.configure("repository: {write: deny}\nserver: {max_body: 100KB}")
    start_server(project)
    variables = {"FNSYNC_ADMIN_TOKEN": ADMIN_TOKEN}

    told = run(project.root, "import", str(put(tmp_path / "export.json", [entry("a")])), **variables)
    large = run(project.root, "import", str(put(tmp_path / "large.json", [entry("a", "#" * 200_000)])), **variables)

    assert (told.returncode, told.stdout) == (exits.FAILED, "")
    assert told.stderr.startswith("functions are changed through git here")
    assert large.returncode == exits.FAILED and "larger than 100KB" in large.stderr


# ---- a server that cannot be reached ---------------------------------------------------------------------


def test_a_server_that_does_not_answer_is_not_gone_around(
    project: Project, start_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("a.py", PIPE.format("x"))
    server = start_server(project)
    export = put(tmp_path / "export.json", [entry("b")])
    monkeypatch.setattr(nearby, "PATIENCE_S", 0.5)
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        for command in (["import", str(export)], ["export"], ["secrets", "rotate"]):
            told = run(project.root, *command)
            assert (told.returncode, told.stdout) == (exits.NO_SERVER, ""), told
            line = f"no server answers at {server.url}, but a server (pid {server.process.pid}) has {server.data}"
            assert told.stderr.splitlines()[0] == line
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert not (project.functions / "b.py").exists()

    server.stop(signal.SIGKILL)
    assert (server.data / "server.json").exists()
    assert run(project.root, "import", str(export)).returncode == exits.OK, "a server that died holds nothing"
    assert (project.functions / "b.py").exists()


def test_a_server_that_has_not_told_where_it_is_is_not_gone_around(folder: Path) -> None:
    (folder / "functions").mkdir()
    (folder / ".fnsync").mkdir()
    with lock(folder / ".fnsync"):
        told = run(folder, "export")

    assert told.returncode == exits.NO_SERVER
    assert told.stderr.startswith(
        f"a server (pid {os.getpid()}) has {folder / '.fnsync'}, and has not told where it is\n"
    )


# ---- how it is shown -------------------------------------------------------------------------------------


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    table = outcome_table([{"outcome": "refused", "id": None, "source": "\x1b[2J", "reason": "\x9b"}])

    assert [str(cell) for column in table.columns for cell in column.cells] == ["refused", "-", "�[2J", "�"]


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    main, other = pty.openpty()
    with os.fdopen(other, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with stepping() as tell:
            shown = ""
            while "checking" not in shown or "3/300" not in shown:
                tell("checking", 3, 300)
                shown += os.read(main, 65536).decode(errors="replace")
    os.close(main)


def test_hundreds_of_functions_are_taken_in_at_once(folder: Path, tmp_path: Path) -> None:
    sent = [entry(f"f{number}", PIPE.format(number), created_at=1_600_000_000 + number) for number in range(120)]

    told = run(folder, "import", str(put(tmp_path / "export.json", sent)), "--json")

    assert told.returncode == exits.OK
    assert Counter(report(told).values()) == {"created": 120}
    assert git(folder, "rev-list", "--count", "HEAD") == "1"
    rows = json.loads(run(folder, "export").stdout)
    assert [(row["id"], row["created_at"], row["content"]) for row in rows] == [
        (one["id"], one["created_at"], one["content"]) for one in sent
    ]


def test_progress_of_a_sync_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    main, other = pty.openpty()
    with os.fdopen(other, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with following(lambda: "receiving objects 40 %", "syncing acme"):
            shown = ""
            while "syncing acme: receiving objects 40 %" not in shown:
                shown += os.read(main, 65536).decode(errors="replace")
    os.close(main)
