"""Tokens in the state: hashes only, each somebody's, service tokens with a ceiling."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fnsync.errors import Invalid, NotFound
from fnsync.store.state import ADMIN, State, digest


def test_a_tokens_text_is_nowhere_in_the_database(tmp_path: Path) -> None:
    state = State.open(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    token, text = state.add_token("admin", " laptop ")
    assert re.fullmatch(r"fns_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", text)
    assert text.split("_", 2)[1] == token.id and token.digest == digest(text)
    assert state.tokens() == [token] and token.label == "laptop"
    secret = text.split("_", 2)[2].encode()
    assert not any(secret in file.read_bytes() for file in tmp_path.iterdir())
    state.close()


def test_a_revoked_token_is_gone(any_state: State) -> None:
    token, _ = any_state.add_token("admin", "laptop")
    assert any_state.revoke(token.id) is True
    assert any_state.revoke(token.id) is False
    assert any_state.tokens() == []


def test_a_token_needs_a_user_and_a_label_of_one_line(any_state: State) -> None:
    with pytest.raises(NotFound, match="nobody"):
        any_state.add_token("nobody", "laptop")
    for label in ("two\nlines", "a" * 256):
        with pytest.raises(Invalid, match="label"):
            any_state.add_token("admin", label)


def test_each_token_has_its_user_and_a_service_token_its_ceiling(any_state: State) -> None:
    ada = any_state.add_user(email="ada@example.org")
    plain, _ = any_state.add_token(ada.id, "laptop")
    service, _ = any_state.add_token("admin", "chat", ceiling="user")

    assert (plain.ceiling, service.ceiling) == (None, "user")
    assert sorted(any_state.holders(), key=lambda held: held[0].label) == [(service, ADMIN), (plain, ada)]
    assert any_state.tokens(ada.id) == [plain]
    assert any_state.tokens("nobody") == []
