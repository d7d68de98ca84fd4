"""The vault: what is sealed opens for whom and what it was sealed for, and for nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot_manager.security.vault import CannotOpen, Vault, open_vault
from bot_manager.settings import BadSetting, Settings

OLD, NEW = b"o" * 32, b"n" * 32
vault = Vault([NEW, OLD], b"root")


@given(st.text())
def test_what_is_sealed_opens(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return

    assert vault.open(vault.seal(text, "bot.token", 1), "bot.token", 1) == text


@pytest.mark.parametrize(("purpose", "seller"), [("bot.token", 2), ("gateway.credentials", 1)])
def test_a_value_that_was_moved_does_not_open(purpose: str, seller: int) -> None:
    sealed = vault.seal("secret", "bot.token", 1)

    with pytest.raises(CannotOpen):
        vault.open(sealed, purpose, seller)


def test_a_value_that_was_changed_does_not_open() -> None:
    sealed = bytearray(vault.seal("secret", "bot.token", 1))
    for place in range(len(sealed)):
        changed = bytes(sealed[:place]) + bytes([sealed[place] ^ 1]) + bytes(sealed[place + 1 :])
        with pytest.raises(CannotOpen):
            vault.open(changed, "bot.token", 1)


def test_an_older_key_still_opens_and_the_newest_seals() -> None:
    before = Vault([OLD], b"root").seal("secret", "bot.token", 1)

    assert vault.open(before, "bot.token", 1) == "secret"
    with pytest.raises(CannotOpen):
        Vault([OLD], b"root").open(vault.seal("secret", "bot.token", 1), "bot.token", 1)


def test_the_first_run_makes_keys_that_only_their_owner_reads(tmp_path: Path) -> None:
    settings = Settings(keys_dir=tmp_path / "keys")

    with ThreadPoolExecutor(8) as pool:
        vaults = list(pool.map(lambda _: open_vault(settings), range(8)))

    sealed = vaults[0].seal("secret", "x", 1)
    assert all(each.open(sealed, "x", 1) == "secret" for each in vaults)
    assert {path.name for path in settings.keys_dir.iterdir()} == {"secret_key", "encryption_keys"}
    assert {path.stat().st_mode & 0o777 for path in settings.keys_dir.iterdir()} == {0o600}


def test_a_keys_directory_that_can_not_be_made_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BadSetting, match="KEYS_DIR"):
        open_vault(Settings(keys_dir=tmp_path / "file" / "keys"))
