"""State: users and tokens survive, their secrets are not stored, several processes share one database."""

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnsync.errors import Conflict, Invalid, NotFound, StoreError
from fnsync.store.state import ADMIN, HEAD, State, digest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data folder" / "100%?.sqlite3"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    state = State.open(f"sqlite:///{path}")
    yield state
    state.close()


def python(code: str, *arguments: str) -> str:
    """Run code in another process."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_users_are_kept_over_a_restart(state: State, path: Path) -> None:
    ada = state.add_user(name=" Ada ", email="Ada@Example.org")
    assert (ada.name, ada.email, ada.role) == ("Ada", "ada@example.org", "user")
    assert state.ensure_admin() == state.ensure_admin() == ADMIN
    state.close()
    again = State.open(f"sqlite:///{path}")
    assert again.users() == [ada, ADMIN]
    assert (again.user(ada.id), again.user("nobody")) == (ada, None)
    again.close()


def test_an_address_can_be_used_once(state: State) -> None:
    state.add_user(name="Ada", email="ada@example.org")
    with pytest.raises(Conflict, match=r"ada@example\.org"):
        state.add_user(name="Ada", email="ADA@example.org")
    with pytest.raises(Invalid):
        state.add_user(name="Ada", email="ada")


def test_a_tokens_text_is_nowhere_in_the_database(state: State, path: Path) -> None:
    state.ensure_admin()
    token, text = state.add_token("admin", "laptop")
    assert re.fullmatch(r"fns_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", text)
    assert text.split("_", 2)[1] == token.id and token.digest == digest(text)
    assert state.tokens() == [token]
    secret = text.split("_", 2)[2].encode()
    assert not any(secret in file.read_bytes() for file in path.parent.iterdir())


def test_a_revoked_token_is_gone(state: State) -> None:
    state.ensure_admin()
    token, _ = state.add_token("admin", "laptop")
    assert state.revoke(token.id) is True
    assert state.revoke(token.id) is False
    assert state.tokens() == []


def test_a_token_needs_a_user(state: State) -> None:
    with pytest.raises(NotFound, match="nobody"):
        state.add_token("nobody", "laptop")


def test_the_generation_grows_with_changes_here_and_in_another_process(state: State, path: Path) -> None:
    seen = [state.generation()]
    state.ensure_admin()
    seen.append(state.generation())
    token, _ = state.add_token("admin", "here")
    seen.append(state.generation())
    state.mark_used({token.id: 1_700_000_000})
    assert state.generation() == seen[-1], "using a token is no change"
    assert state.tokens()[0].last_used_at == 1_700_000_000
    code = (
        "import sys; from fnsync.store.state import State; s = State.open(sys.argv[1]); s.add_token('admin', 'there')"
    )
    python(code, f"sqlite:///{path}")
    seen.append(state.generation())
    state.revoke(token.id)
    seen.append(state.generation())
    assert seen == sorted(set(seen))
    assert [token.label for token in state.tokens()] == ["there"]


def test_only_the_owner_can_read_the_file(state: State, path: Path) -> None:
    state.ensure_admin()
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}


def test_opening_at_head_loads_neither_sqlalchemy_nor_alembic(state: State, path: Path) -> None:
    code = (
        "import sys; from fnsync.store.state import State; s = State.open(sys.argv[1]); s.generation();"
        "print('sqlalchemy' in sys.modules, end=' '); s.users(); print('alembic' in sys.modules); s.close()"
    )
    assert python(code, f"sqlite:///{path}") == "False False"


def test_the_newest_migration_is_head_and_makes_the_tables_the_queries_use(state: State) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from fnsync.store import database, tables

    scripts = ScriptDirectory(str(Path(database.__file__).parent / "migrations"))
    assert scripts.get_heads() == [HEAD]
    state.warm()
    assert state._database is not None
    with state._database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_processes_that_start_at_once_set_it_up_once(path: Path) -> None:
    code = (
        "import sys; from fnsync.store.state import State\n"
        "s = State.open(sys.argv[1]); s.ensure_admin(); s.add_token('admin', 'x'); s.close()"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, f"sqlite:///{path}"], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    errors = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, errors
    state = State.open(f"sqlite:///{path}")
    assert len(state.tokens()) == 4 and state.users() == [ADMIN]
    state.close()


def test_threads_share_it(state: State) -> None:
    state.ensure_admin()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                token, _ = state.add_token("admin", "x")
                state.generation()
                assert state.revoke(token.id)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and state.tokens() == []


def test_a_database_of_a_newer_fnsync_is_refused_and_left_alone(state: State, path: Path) -> None:
    state.ensure_admin()
    state.close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match="9999") as caught:
        State.open(f"sqlite:///{path}")
    assert caught.value.hint is not None and "newer" in caught.value.hint


def test_a_damaged_file_is_an_error_and_kept(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="damaged") as caught:
        State.open(f"sqlite:///{path}")
    assert caught.value.hint is not None
    assert path.read_bytes().startswith(b"no database")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "no database URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("oracle9i://x/y", "unknown"),
    ],
)
def test_a_url_that_cannot_work_is_an_error(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        State.open(url)


def test_an_error_does_not_show_the_databases_password() -> None:
    with pytest.raises(StoreError) as caught:
        State.open("postgresql://ada:hunter2@127.0.0.1:1/fnsync")
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)


def test_closing_leaves_no_descriptor_open(state: State, path: Path) -> None:
    state.close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        again = State.open(f"sqlite:///{path}")
        again.ensure_admin()
        again.generation()
        again.close()
        again.close()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(StoreError, match="closed"):
        again.users()
