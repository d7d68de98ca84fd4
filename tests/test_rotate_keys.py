"""Keys are rotated while everything runs: nothing fails to open, and the old key can be taken out afterwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Engine

from bot_manager.commands import rotate_keys
from bot_manager.ops import reseal
from bot_manager.ops.processes import CannotRun
from bot_manager.security import keys
from bot_manager.security.keys import KEYS, KeyFile, key_id, key_of
from bot_manager.security.vault import CannotOpen, open_vault
from bot_manager.settings import Settings
from tests.line import Line
from tests.shops import open_shop


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a second to pass."""
    monkeypatch.setattr(keys, "RECHECK_S", 0.0)
    monkeypatch.setattr(reseal, "BETWEEN_PASSES_S", 0.0)


def keys_of(settings: Settings) -> list[str]:
    return KeyFile(settings.keys_dir / KEYS).read()


def sealed_by(owner: Engine) -> set[bytes]:
    with owner.connect() as connection:
        return set(reseal.tally(connection))


def sell(line: Line) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())
    [unpaid] = [c for c in line.world.pushinpay.charges.values() if not c.paid]
    line.world.pushinpay.pay(unpaid.id)
    line.world.pushinpay.wait_delivered()
    line.work()


def test_every_sealed_value_is_found_by_its_columns_name_and_sealed_again(line: Line, owner: Engine) -> None:
    sell(line)
    line.change("update delivery set invite_sealed = null")

    assert rotate_keys.main(line.settings, []) == 0

    assert sealed_by(owner) == {key_id(key_of(keys_of(line.settings)[0]))}
    with owner.connect() as connection:
        assert reseal.unopened(connection, open_vault(line.settings)) == []
    filled = {sealed.purpose for sealed in reseal.sealed_columns()} - {"bot.old_tokens", "delivery.invite"}
    assert filled == {
        "bot.token",
        "click.visitor",
        "customer.profile",
        "destination.access_token",
        "gateway.credentials",
        "gateway.webhook_secret",
        "inbox.body",
        "message.body",
        "webhook_receipt.body",
    }


def test_running_processes_sell_on_and_the_old_key_can_be_taken_out(line: Line, owner: Engine) -> None:
    sell(line)
    [old] = keys_of(line.settings)

    assert rotate_keys.main(line.settings, []) == 0
    sell(line)
    assert rotate_keys.main(line.settings, ["--remove-old"]) == 0
    sell(line)

    assert old not in keys_of(line.settings)
    assert len(sealed_by(owner)) == 1
    assert line.rows("select count(*) as n from payment where status = 'paid'") == [{"n": 3}]
    retired = line.settings.keys_dir / "retired_keys"
    assert retired.read_text().split() == [old]
    assert [path.stat().st_mode & 0o777 for path in line.settings.keys_dir.iterdir()] == [0o600] * 3


def test_an_old_key_that_is_still_needed_is_not_taken_out(line: Line) -> None:
    sell(line)
    KeyFile(line.settings.keys_dir / KEYS).add()

    assert rotate_keys.main(line.settings, ["--remove-old"]) == 1

    assert len(keys_of(line.settings)) == 2


def test_a_rotation_that_was_cut_off_goes_on_without_another_key(
    line: Line, owner: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sell(line)
    with monkeypatch.context() as cut:
        cut.setattr(reseal, "BATCH", 2)
        cut.setattr(reseal, "_seal_again", cut_off_after(3))
        with pytest.raises(KeyboardInterrupt):
            rotate_keys.main(line.settings, [])
    assert len(sealed_by(owner)) == 2

    assert rotate_keys.main(line.settings, []) == 0

    assert (len(keys_of(line.settings)), len(sealed_by(owner))) == (2, 1)


def cut_off_after(batches: int):
    seal_again, done = reseal._seal_again, []

    def cut(*args):
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(1)
        return seal_again(*args)

    return cut


def test_a_row_that_somebody_holds_is_waited_for_by_nobody_and_sealed_in_the_end(line: Line, owner: Engine) -> None:
    sell(line)
    held, pass_made = Event(), Event()

    def hold() -> None:
        with owner.begin() as connection:
            connection.exec_driver_sql("select 1 from customer for update")
            held.set()
            assert pass_made.wait(30)

    def say(line: str) -> None:
        if line.startswith("message.body"):  # a table after the customers': theirs were passed over
            pass_made.set()

    KeyFile(line.settings.keys_dir / KEYS).add()
    with ThreadPoolExecutor(1) as aside:
        holding = aside.submit(hold)
        assert held.wait(10)
        reseal.reseal(owner, open_vault(line.settings), say)
        holding.result()

    assert len(sealed_by(owner)) == 1


def test_a_value_whose_key_is_gone_is_told_and_the_others_are_sealed(
    line: Line, owner: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    sell(line)
    line.change("update bot set token_sealed = '\\x00000000' || substring(token_sealed from 5)")

    assert rotate_keys.main(line.settings, []) == 1

    assert "Not to be opened: 1" in capsys.readouterr().err
    assert len(sealed_by(owner)) == 2


def test_a_role_that_can_not_see_all_rows_proves_nothing(line: Line) -> None:
    with pytest.raises(CannotRun, match="DATABASE_OWNER_URL"):
        rotate_keys.main(replace(line.settings, database_owner_url=line.settings.database_url), [])


def test_two_rotations_at_once_are_one_too_many(line: Line) -> None:
    with rotate_keys._alone(line.settings.database_owner_url or ""), pytest.raises(CannotRun, match="another"):
        rotate_keys.main(line.settings, ["--check"])


def test_keys_from_the_environment_are_the_operators_to_change(line: Line, owner: Engine) -> None:
    sell(line)
    [old] = keys_of(line.settings)
    new = "n" * 40

    assert rotate_keys.main(replace(line.settings, encryption_keys=(new, old)), []) == 0

    assert sealed_by(owner) == {key_id(key_of(new))}


# The vault --------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> Settings:
    return Settings(keys_dir=tmp_path / "keys")


def test_a_new_key_is_known_at_once_to_who_meets_it(kept: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "RECHECK_S", 3600.0)
    running = open_vault(kept)
    KeyFile(kept.keys_dir / KEYS).add()
    sealed = open_vault(kept).seal("secret", "bot.token", 1)

    with ThreadPoolExecutor(8) as crowd:
        opened = [crowd.submit(running.open, sealed, "bot.token", 1) for _ in range(32)]

    assert {each.result() for each in opened} == {"secret"}


def test_who_runs_seals_with_the_new_key_within_a_second(kept: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "RECHECK_S", 1.0)
    now = [1000.0]
    monkeypatch.setattr(keys.time, "monotonic", lambda: now[0])
    running = open_vault(kept)
    KeyFile(kept.keys_dir / KEYS).add()
    newest = key_id(key_of(keys_of(kept)[0]))

    assert running.seal("secret", "bot.token", 1)[:4] != newest
    now[0] += 1.0
    assert running.seal("secret", "bot.token", 1)[:4] == newest


def test_a_key_file_that_is_away_for_a_moment_takes_nothing_away(kept: Settings) -> None:
    running = open_vault(kept)
    sealed = running.seal("secret", "bot.token", 1)
    (kept.keys_dir / KEYS).unlink()

    assert running.open(sealed, "bot.token", 1) == "secret"
    with pytest.raises(CannotOpen):
        running.open(b"none" + sealed[4:], "bot.token", 1)
