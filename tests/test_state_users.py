"""Users in the state: local ones and those of chat servers, and what neither of them can be."""

from __future__ import annotations

import pytest

from fnsync.errors import Conflict, Invalid, NotFound
from fnsync.model import User
from fnsync.store import tables
from fnsync.store.state import ADMIN, State

ZOE = User("7f3c", "Zoë Ünal", "zoe@example.org", "user")


def test_a_user_is_kept_in_one_spelling_and_found(any_state: State) -> None:
    ada = any_state.add_user(name=" Ada ", email=" Ada@Example.org")

    assert (ada.name, ada.email, ada.role) == ("Ada", "ada@example.org", "user")
    assert any_state.user(ada.id) == any_state.user_by_email("ADA@example.org") == ada
    assert (any_state.user("nobody"), any_state.user_by_email("nobody@example.org")) == (None, None)
    account = any_state.account(ada.id)
    assert account is not None and (account.user, account.origin) == (ada, "local") and account.created_at > 0


def test_without_a_name_a_user_gets_that_of_their_address(any_state: State) -> None:
    assert any_state.add_user(email="grace@example.org").name == "grace"


def test_the_built_in_admin_is_always_there(any_state: State) -> None:
    assert any_state.users() == [ADMIN]
    assert any_state.ensure_admin() == ADMIN
    with pytest.raises(Conflict, match="cannot be removed"):
        any_state.remove_user("admin")
    with pytest.raises(Conflict, match="stays as it is"):
        any_state.set_role("admin", "user")
    with pytest.raises(Conflict, match="stays as it is"):
        any_state.update_user("admin", name="Root")
    assert any_state.update_user("admin", email=ADMIN.email, role="admin") == ADMIN, "what changes nothing is no error"
    with pytest.raises(Conflict, match="admin@localhost"):
        any_state.add_user(email="admin@localhost")
    assert any_state.users() == [ADMIN]


@pytest.mark.parametrize(
    ("name", "email", "field"),
    [
        ("Ada", "ada", "email"),
        ("Ada", "", "email"),
        ("Ada", "a@b@c", "email"),
        ("Ada", "ada lovelace@example.org", "email"),
        ("Ada", "ada@example.org\nx", "email"),
        ("Ada", "a" * 320 + "@example.org", "email"),
        ("Ada\nAdmin", "ada@example.org", "name"),
        ("Ada\x1b[2J", "ada@example.org", "name"),
        ("Ada\u2028Admin", "ada@example.org", "name"),
        ("\udcff", "ada@example.org", "name"),
        ("a" * 256, "ada@example.org", "name"),
        (" ", "ada@example.org", "name"),
    ],
)
def test_what_is_no_name_and_no_address_is_refused(any_state: State, name: str, email: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        any_state.add_user(name=name, email=email)
    assert caught.value.param == field
    ada = any_state.add_user(email="ada@example.org")
    with pytest.raises(Invalid):
        any_state.update_user(ada.id, name=name, email=email)
    assert any_state.user(ada.id) == ada


def test_local_users_do_not_share_an_address(any_state: State) -> None:
    ada = any_state.add_user(name="Ada", email="ada@example.org")
    with pytest.raises(Conflict, match=r"ada@example\.org"):
        any_state.add_user(name="Ada", email="ADA@example.org")
    grace = any_state.add_user(name="Grace", email="grace@example.org")
    with pytest.raises(Conflict, match=r"ada@example\.org"):
        any_state.update_user(grace.id, email="Ada@example.org")
    assert any_state.users() == [ada, ADMIN, grace]


def test_users_of_chat_servers_may_share_addresses(any_state: State) -> None:
    ada = any_state.add_user(name="Ada", email="ada@example.org")
    named = [User("1", "Ada", ada.email, "user"), User("2", "Ada L.", ada.email, "user")]
    any_state.remember(*named)

    assert any_state.users() == sorted([ada, *named], key=lambda user: user.id) + [ADMIN]
    assert any_state.user_by_email(ada.email) == ada
    assert any_state.user_by_email("nobody@example.org") is None


def test_a_changed_user_is_as_they_are_now(any_state: State) -> None:
    ada = any_state.add_user(name="Ada", email="ada@example.org", role="pending")
    generation = any_state.generation()

    assert any_state.set_role(ada.id, "user").role == "user"
    changed = any_state.update_user(ada.id, name="Ada L.", email="Lovelace@example.org", role="admin")
    assert changed == any_state.user(ada.id) == User(ada.id, "Ada L.", "lovelace@example.org", "admin")
    assert any_state.generation() > generation

    generation = any_state.generation()
    assert any_state.update_user(ada.id) == any_state.set_role(ada.id, "admin") == changed
    assert any_state.generation() == generation, "what changes nothing does not count as a change"
    with pytest.raises(NotFound, match="nobody"):
        any_state.set_role("nobody", "user")


def test_who_is_removed_takes_tokens_and_valves_along(any_state: State) -> None:
    ada = any_state.add_user(email="ada@example.org")
    grace = any_state.add_user(email="grace@example.org")
    for user in (ada, grace):
        any_state.add_token(user.id, "laptop")
        any_state.set_user_valves(user.id, "translate", "secret")
    generation = any_state.generation()

    assert any_state.remove_user(ada.id) == ada
    assert any_state.generation() > generation
    assert any_state.users() == [ADMIN, grace]
    assert [token.user_id for token in any_state.tokens()] == [grace.id]
    assert [valves.user_id for valves in any_state.all_user_valves()] == [grace.id]
    with pytest.raises(NotFound):
        any_state.remove_user(ada.id)


# ---- users of chat servers -------------------------------------------------------------------------------


def test_who_is_named_is_remembered_and_follows_what_is_said(any_state: State) -> None:
    any_state.remember(ZOE)
    account = any_state.account(ZOE.id)
    assert account is not None and (account.user, account.origin) == (ZOE, "forwarded")

    renamed = User(ZOE.id, "Zoë", "zoe@example.com", "admin")
    any_state.remember(renamed, User("8a", "", "", "user"))
    assert any_state.user(ZOE.id) == renamed
    assert any_state.user("8a") == User("8a", "", "", "user")


def test_what_is_known_is_not_written_again(any_state: State) -> None:
    any_state.remember(ZOE)

    def refuse(*_: object) -> None:
        raise AssertionError("written")

    any_state._writing = refuse  # type: ignore[method-assign, assignment]
    any_state.remember(ZOE)
    any_state.remember()


def test_a_chat_server_cannot_change_a_local_user(any_state: State) -> None:
    ada = any_state.add_user(name="Ada", email="ada@example.org", role="pending")
    any_state.remember(User(ada.id, "Eve", "eve@example.org", "admin"), User("admin", "Eve", "eve@example.org", "user"))

    assert any_state.users() == [ada, ADMIN]


def test_a_chat_server_cannot_take_the_place_of_the_built_in_admin(any_state: State) -> None:
    with any_state._writing() as connection:  # as where somebody had that address before there were service tokens
        connection.execute(tables.users.delete().where(tables.users.c.id == ADMIN.id))
    any_state.remember(User(ADMIN.id, "Eve", "eve@example.org", "user"))

    assert any_state.user(ADMIN.id) is None
    assert any_state.ensure_admin() == ADMIN == any_state.user(ADMIN.id)


def test_a_user_of_a_chat_server_is_changed_there_and_calls_with_its_token(any_state: State) -> None:
    any_state.remember(ZOE)

    with pytest.raises(Conflict, match="Zoë Ünal is a user of a chat server"):
        any_state.set_role(ZOE.id, "admin")
    with pytest.raises(Conflict, match="Zoë Ünal is a user of a chat server"):
        any_state.add_token(ZOE.id, "laptop")
    assert any_state.remove_user(ZOE.id) == ZOE
    assert any_state.users() == [ADMIN]
