"""State: how it is opened and upgraded, that it survives, and that several processes share one database."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.operations import Operations
from sqlalchemy import MetaData, inspect

from fnsync.errors import StoreError
from fnsync.model import User
from fnsync.store.database import Database
from fnsync.store.state import ADMIN, HEAD, Account, State, Token, digest
from tests import databases
from tests.conftest import wait_for


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


def test_what_it_holds_is_kept_over_a_restart(database_url: str) -> None:
    state = State.open(database_url)
    ada = state.add_user(name="Ada", email="ada@example.org")
    token, _ = state.add_token(ada.id, "chat", ceiling="admin")
    state.set_user_valves(ada.id, "translate", "gAAAAAB")
    state.set_note("renames", "4f1c22ab")
    state.close()

    again = State.open(database_url)
    assert again.users() == [ada, ADMIN]
    assert again.tokens() == [token]
    assert again.user_valves(ada.id, "translate") == "gAAAAAB"
    assert again.note("renames") == "4f1c22ab"
    again.close()


def test_a_database_of_the_first_schema_is_upgraded_with_all_it_holds(database_url: str) -> None:
    old = Database(database_url, head="0001")
    tables = MetaData()
    with old.writing() as connection:
        tables.reflect(connection)
        users = [
            {"id": f"id-{number}", "name": "N", "email": f"{number}@example.org", "role": "admin", "created_at": number}
            for number in range(50)
        ]
        tokens = [
            {
                "id": f"{number:08x}",
                "user_id": f"id-{number % 50}",
                "label": "old",
                "digest": digest(str(number)),
                "created_at": number,
                "last_used_at": number or None,
            }
            for number in range(100)
        ]
        connection.execute(tables.tables["users"].insert(), users)
        connection.execute(tables.tables["tokens"].insert(), tokens)
    old.close()

    state = State.open(database_url)
    kept = {account.user.id: account for account in state.accounts()}
    assert kept.pop("admin").user == ADMIN
    assert len(kept) == 50 and {account.origin for account in kept.values()} == {"local"}
    assert kept["id-7"] == Account(User("id-7", "N", "7@example.org", "admin"), "local", 7)
    assert len(state.tokens()) == 100 and {token.ceiling for token in state.tokens()} == {None}
    assert state.tokens("id-7")[0] == Token("00000007", "id-7", "old", digest("7"), 7, 7)
    state.remove_user("id-7")
    assert len(state.tokens()) == 98, "tokens still go with their user"
    state.close()


def test_user_valves_of_the_second_schema_are_for_functions_of_nobody(database_url: str) -> None:
    old = Database(database_url, head="0002")
    tables = MetaData()
    with old.writing() as connection:
        tables.reflect(connection)
        row = {"user_id": "ada", "function": "translate", "text": "gAAAAAB", "updated_at": 7}
        connection.execute(tables.tables["user_valves"].insert(), [row])
    old.close()

    state = State.open(database_url)
    assert state.user_valves("ada", "translate") == "gAAAAAB"
    assert state.user_valves("ada", "translate", "bob") is None
    state.close()


def test_an_upgrade_that_is_cut_short_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'state.sqlite3'}"
    Database(url, head="0001").close()
    with closing(sqlite3.connect(tmp_path / "state.sqlite3")) as connection, connection:
        connection.execute("INSERT INTO users VALUES ('1', 'Ada', 'ada@example.org', 'user', 1)")
        connection.execute("INSERT INTO tokens VALUES ('00000001', '1', 'old', 'd', 1, NULL)")
    create_index = Operations.create_index

    def fail(self: Operations, name: str, *arguments: Any, **options: Any) -> Any:
        if name == "ix_user_valves_function":
            raise StoreError("the disk is full")
        return create_index(self, name, *arguments, **options)

    monkeypatch.setattr(Operations, "create_index", fail)
    with pytest.raises(StoreError, match="full"):
        State.open(url)
    monkeypatch.undo()

    state = State.open(url)
    assert [user.id for user in state.users()] == ["1", "admin"]
    assert [token.user_id for token in state.tokens()] == ["1"]
    state.close()


def test_two_servers_on_one_database_see_each_others_changes(database_url: str) -> None:
    here, there = State.open(database_url), State.open(database_url)
    before = here.generation()
    ada = there.add_user(name="Ada", email="ada@example.org")
    wait_for("the other one's change", lambda: here.generation() > before)
    before = here.generation()
    here.set_role(ada.id, "admin")
    assert here.generation() > before, "its own change shows at once"
    here.close()
    there.close()


def test_the_generation_grows_with_changes_here_and_in_another_process(state: State, path: Path) -> None:
    seen = [state.generation()]
    state.add_user(email="ada@example.org")
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
    assert python(code, f"sqlite:///{path}-new") == "True False"


def test_the_newest_migration_is_head_and_makes_the_tables_the_queries_use(any_state: State) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from fnsync.store import database, tables

    scripts = ScriptDirectory(str(Path(database.__file__).parent / "migrations"))
    assert scripts.get_heads() == [HEAD]
    with any_state._reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


@pytest.mark.parametrize("kind", databases.KINDS)
def test_a_new_database_is_what_the_migrations_make_of_an_old_one(kind: str, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    with databases.database(kind, tmp_path / "new") as new, databases.database(kind, tmp_path / "old") as old:
        Database(old, head="0001").close()
        State.open(old).close()
        State.open(new).close()
        assert everything_in(new) == everything_in(old)


def told(index: Mapping[str, Any]) -> dict[str, str]:
    """An index's options in words: its condition is an object."""
    return {key: str(value) for key, value in index.get("dialect_options", {}).items()}


def everything_in(url: str) -> dict[str, Any]:
    """What each table is, and its rows without times."""
    database = Database(url, head=HEAD)
    with database.reading() as connection:
        found: dict[str, Any] = {}
        tables = MetaData()
        tables.reflect(connection)
        inspector = inspect(connection)
        for name, table in tables.tables.items():
            columns = [{**column, "type": str(column["type"])} for column in inspector.get_columns(name)]
            rows = [{**row._mapping, "created_at": 0} for row in connection.execute(table.select())]
            found[name] = (
                sorted(columns, key=lambda column: str(column["name"])),
                inspector.get_pk_constraint(name),
                sorted(f"{index | {'dialect_options': told(index)}}" for index in inspector.get_indexes(name)),
                inspector.get_unique_constraints(name),
                inspector.get_foreign_keys(name),
                rows,
            )
    database.close()
    return found


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
