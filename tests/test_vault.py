"""The vault: what it keeps secret, with which key, and what happens when the key is another one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fnsync.errors import ConfigError
from fnsync.vault import FILE, VARIABLE, Undecipherable, Vault, new_key


@pytest.mark.parametrize("value", ["s3cret", "", "ünï ☃", 5, None, ["a", "b"], {"user": "ada", "password": "x"}])
def test_every_json_value_comes_back(tmp_path: Path, value: Any) -> None:
    text = Vault(tmp_path, {}).encrypt(value)

    assert text.isascii() and "s3cret" not in text
    assert Vault(tmp_path, {}).decrypt(text) == value


def test_the_key_that_is_made_is_for_its_owner_only(tmp_path: Path) -> None:
    Vault(tmp_path / "data", {}).encrypt("x")

    assert (tmp_path / "data" / FILE).stat().st_mode & 0o777 == 0o600


def test_nothing_is_made_where_only_something_is_read(tmp_path: Path) -> None:
    with pytest.raises(Undecipherable, match="there is no key"):
        Vault(tmp_path, {}).decrypt("gAAAA")

    assert list(tmp_path.iterdir()) == []


def test_a_key_from_the_environment_leaves_no_file(tmp_path: Path) -> None:
    environ = {VARIABLE: new_key()}

    text = Vault(tmp_path, environ).encrypt("x")

    assert Vault(tmp_path, environ).decrypt(text) == "x"
    assert list(tmp_path.iterdir()) == []


def test_another_key_is_told_with_the_way_out(tmp_path: Path) -> None:
    text = Vault(tmp_path, {VARIABLE: new_key()}).encrypt("x")

    with pytest.raises(Undecipherable, match="another key") as caught:
        Vault(tmp_path, {VARIABLE: new_key()}).decrypt(text)
    assert VARIABLE in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "x", "gAAAAABünï", "gAAAAAB" + "A" * 100])
def test_what_is_no_encrypted_text_is_undecipherable(tmp_path: Path, text: str) -> None:
    with pytest.raises(Undecipherable):
        Vault(tmp_path, {VARIABLE: new_key()}).decrypt(text)


def test_several_keys_decrypt_and_the_first_encrypts(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    text = Vault(tmp_path, {VARIABLE: old}).encrypt("x")
    both = Vault(tmp_path, {VARIABLE: f"{new}, {old}"})

    assert both.decrypt(text) == "x"
    assert Vault(tmp_path, {VARIABLE: new}).decrypt(both.renew(text)) == "x"


def test_a_key_in_the_data_folder_is_replaced_in_two_steps(tmp_path: Path) -> None:
    vault = Vault(tmp_path, {})
    text = vault.encrypt("x")

    vault.add_key()
    renewed = vault.renew(text)
    assert vault.decrypt(text) == vault.decrypt(renewed) == "x"

    assert vault.drop_old_keys() == 1
    assert vault.decrypt(renewed) == "x"
    with pytest.raises(Undecipherable):
        vault.decrypt(text)


def test_moving_to_the_environment_takes_the_file_along_until_it_is_dropped(tmp_path: Path) -> None:
    text = Vault(tmp_path, {}).encrypt("x")
    vault = Vault(tmp_path, {VARIABLE: new_key()})

    assert vault.decrypt(text) == "x"
    with pytest.raises(ConfigError, match=VARIABLE):
        vault.add_key()


def test_what_is_no_key_is_refused_without_being_repeated(tmp_path: Path) -> None:
    vault = Vault(tmp_path, {VARIABLE: "hunter2-hunter2"})

    with pytest.raises(ConfigError, match=f"{VARIABLE} holds something that is no key") as caught:
        vault.check()
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {vault!r}"


def test_it_is_told_which_texts_are_under_the_newest_key(tmp_path: Path) -> None:
    vault = Vault(tmp_path, {})
    text = vault.encrypt("x")
    assert vault.is_newest(text)

    vault.add_key()

    assert not vault.is_newest(text) and vault.is_newest(vault.renew(text))
    assert not vault.is_newest("gAAAAABünï")


def test_threads_that_need_the_first_key_at_once_get_the_same(tmp_path: Path) -> None:
    for round in range(20):
        folder = tmp_path / str(round)
        vault = Vault(folder, {})
        with ThreadPoolExecutor(8) as pool:
            texts = list(pool.map(vault.encrypt, range(8)))

        assert [Vault(folder, {}).decrypt(text) for text in texts] == list(range(8))
