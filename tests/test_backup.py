"""Backup, restore and drill on a database of their own: whole or not there, never in the way, nothing twice after."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import psycopg
import pytest
from alembic import command
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from bot_manager.ops import backup, daily_backup, doctor, drill, programs, restore, schema, scratch
from bot_manager.ops.postgres import Urls
from bot_manager.ops.processes import CannotRun
from bot_manager.ops.programs import Programs
from bot_manager.ops.scratch import Database
from bot_manager.security.keys import KEYS, KeyFile
from bot_manager.settings import Settings
from models import db
from tests import ledger
from tests.conftest import _made, named
from tests.line import Line
from tests.shops import open_shop
from tests.test_reconcile import come_back, open_lookups, pay
from tests.test_rotate_keys import sell


@pytest.fixture(scope="module")
def name(server: Urls, worker_id: str) -> Iterator[str]:
    name = f"recovery_{worker_id}"
    yield name
    with Database(named(server.owner, name)).beside(autocommit=True) as connection:
        connection.execute(text(f"drop database if exists {name} with (force)"))


@pytest.fixture
def urls(server: Urls, name: str) -> Urls:
    return _made(server, name)


@pytest.fixture
def settings(urls: Urls, tmp_path: Path) -> Settings:
    return Settings(
        database_url=urls.app, database_owner_url=urls.owner, keys_dir=tmp_path / "keys", data_dir=tmp_path / "var"
    )


@pytest.fixture
def real(urls: Urls) -> Database:
    return Database(urls.owner)


def put_back(line: Line, urls: Urls, file: Path, **more: bool) -> list[str]:
    said: list[str] = []
    line._owner.dispose()
    with line.app.app_context():
        db.session.remove()
        db.engine.dispose()
    restore.restore(line.settings, urls, file, say=said.append, **{"replace": True, **more})
    return said


def databases(real: Database) -> set[str]:
    with real.beside() as connection:
        found = connection.execute(
            text("select datname from pg_database where datname like :name"), {"name": f"{real.name}%"}
        )
        return set(found.scalars())


def versions(urls: Urls) -> list:
    with psycopg.connect(urls.owner) as connection:
        return connection.execute("select version_num from alembic_version").fetchall()


# The file ---------------------------------------------------------------------------------------------------------


def test_a_backup_is_one_file_for_its_owner_alone_with_its_checksum_and_without_the_keys(
    line: Line, urls: Urls, tmp_path: Path
) -> None:
    open_shop(line)

    made = backup.make(urls.owner, tmp_path / "shop.dump")

    assert backup.verify(made.path)
    assert subprocess.run(["sha256sum", "-c", "shop.dump.sha256"], cwd=tmp_path, check=False).returncode == 0
    assert {path.name for path in tmp_path.glob("*.dump*")} == {"shop.dump", "shop.dump.sha256"}
    assert not list(tmp_path.glob(".*"))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.dump*")} == {0o600}
    plain = subprocess.run([str(_restorer()), "-f", "-", str(made.path)], capture_output=True, check=True)
    for key in [*line.settings.keys_dir.iterdir()]:
        assert key.read_bytes().strip() not in plain.stdout
    assert b"pushinpay-token" not in plain.stdout


def _restorer() -> Path:
    return programs.fitting(18)[0].directory / "pg_restore"


def test_a_backup_takes_nobodys_place(urls: Urls, tmp_path: Path) -> None:
    (tmp_path / "shop.dump").write_text("mine")

    with pytest.raises(CannotRun, match="already"):
        backup.make(urls.owner, tmp_path / "shop.dump")

    assert (tmp_path / "shop.dump").read_text() == "mine"


def test_a_dump_that_fails_or_is_stopped_leaves_nothing(urls: Urls, tmp_path: Path) -> None:
    stop = Event()
    stop.set()

    with pytest.raises(CannotRun, match="pg_dump failed"):
        backup.make(urls.owner, tmp_path / "shop.dump", snapshot="00000000-00000000-0")
    with psycopg.connect(urls.owner) as holder:
        holder.execute("lock table payment")  # so that it would wait
        with pytest.raises(CannotRun):
            backup.make(urls.owner, tmp_path / "shop.dump", stop=stop)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk that is soon full")
def test_a_full_disk_leaves_no_backup_that_is_not_one(urls: Urls, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        with pytest.raises(CannotRun, match="No space left"):
            backup.make(urls.owner, disk / "shop.dump")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_database_beside_has_the_same_address_whatever_the_password() -> None:
    url = "postgresql://owner:a%3Ab%40c%2Fd%25%20e@db.example.com:6432/shop?sslmode=require"

    beside = Database(url).named("shop_drill")

    assert conninfo_to_dict(beside.url) == conninfo_to_dict(url) | {"dbname": "shop_drill"}
    assert beside.name == "shop_drill"


def test_the_role_that_sees_no_rows_makes_no_empty_backup(urls: Urls, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="pg_dump failed"):
        backup.make(urls.app, tmp_path / "shop.dump")

    assert list(tmp_path.iterdir()) == []


def test_the_programs_chosen_are_the_servers_own_or_the_next_newer() -> None:
    fifteen, seventeen = Programs(Path("15"), 15), Programs(Path("17"), 17)

    assert programs.choose([fifteen, seventeen], 16) == [seventeen]
    assert programs.choose([fifteen, seventeen], 15) == [fifteen, seventeen]
    with pytest.raises(CannotRun, match="postgresql-client-99"):
        programs.fitting(99)


# Restore ----------------------------------------------------------------------------------------------------------


def test_a_restored_shop_sells_on_learns_what_it_missed_and_doubles_nothing(
    line: Line, urls: Urls, real: Database, tmp_path: Path
) -> None:
    world = line.world
    sell(line)  # before the backup: paid, delivered, reported
    shop = open_shop(line)
    waiting = shop.buy(world.telegram.person())
    line.change("update procrastinate_jobs set status = 'doing' where task_name = 'charge'")  # its worker is of then
    timers = line.rows("select key from timer order by key")
    made = backup.make(urls.owner, tmp_path / "shop.dump")
    line.change("update procrastinate_jobs set status = 'succeeded' where task_name = 'charge'")
    pay(shop, waiting)
    lost = shop.buy(world.telegram.person())  # after the backup: nothing here will know of it

    said = put_back(line, urls, made.path)

    assert "1 charges will be asked about" in said[-1]
    kept = line.rows("select key from timer where key not like 'reconcile:%' order by key")
    assert kept == timers
    assert line.rows("select 1 from procrastinate_jobs where status = 'doing'") == []
    come_back(line)
    assert [p["status"] for p in shop.payments()] == ["paid"]
    assert line.rows("select count(*) as n from payment where status = 'paid'") == [{"n": 2}]
    assert ledger.differences(world, line.rows) == []
    assert ledger.repeated(world, line.rows) == 0
    assert open_lookups(line) == 0
    assert databases(real) == {real.name}

    [charge] = [c for c in world.pushinpay.charges.values() if c.pix_code == lost["pix_code"]]
    world.pushinpay.pay(charge.id)
    world.pushinpay.wait_delivered()
    line.work()
    assert line.rows("select state from webhook_receipt order by id desc limit 1") == [{"state": "parked"}]


def test_what_would_be_lost_is_said_and_not_done_without_replace(line: Line, urls: Urls, tmp_path: Path) -> None:
    open_shop(line).buy(line.world.telegram.person())
    made = backup.make(urls.owner, tmp_path / "shop.dump")

    with pytest.raises(CannotRun, match=r"1 sellers, 1 logins, 1 payments, the last of 20.*--replace"):
        put_back(line, urls, made.path, replace=False)

    assert line.rows("select count(*) as n from payment") == [{"n": 1}]


def test_what_is_replaced_is_backed_up_before_and_can_be_had_back(line: Line, urls: Urls, tmp_path: Path) -> None:
    made = backup.make(urls.owner, tmp_path / "empty.dump")
    open_shop(line).buy(line.world.telegram.person())

    put_back(line, urls, made.path)
    assert line.rows("select count(*) as n from payment") == [{"n": 0}]
    [safety] = daily_backup.directory(line.settings).glob("before-restore-*.dump")
    put_back(line, urls, safety, replace=False)

    assert line.rows("select count(*) as n from payment") == [{"n": 1}]


def test_nothing_is_replaced_while_somebody_works_on_it_and_nobody_is_shut_out_after(
    line: Line, urls: Urls, real: Database, tmp_path: Path
) -> None:
    made = backup.make(urls.owner, tmp_path / "shop.dump")

    with psycopg.connect(urls.app, application_name="somebody"), pytest.raises(CannotRun, match="somebody"):
        put_back(line, urls, made.path)

    psycopg.connect(urls.app).close()
    assert databases(real) == {real.name}


def test_only_the_owner_gets_in_while_it_is_replaced(
    line: Line, urls: Urls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup.make(urls.owner, tmp_path / "shop.dump")
    prepare, refused = restore.prepare, []

    def look(*args):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(urls.app)
        refused.append(True)
        return prepare(*args)

    monkeypatch.setattr(restore, "prepare", look)
    put_back(line, urls, made.path)

    assert refused == [True]
    psycopg.connect(urls.app).close()


def test_a_restore_that_was_killed_leaves_a_fence_that_the_next_start_takes_down(urls: Urls, real: Database) -> None:
    fence = scratch.fenced(real, "bot_manager")
    fence.__enter__()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(urls.app)

    schema.migrate(urls.owner, "bot_manager")

    psycopg.connect(urls.app).close()


def test_a_backup_sealed_with_other_keys_replaces_nothing(
    line: Line, urls: Urls, real: Database, tmp_path: Path
) -> None:
    open_shop(line)
    made = backup.make(urls.owner, tmp_path / "shop.dump")
    file = KeyFile(line.settings.keys_dir / KEYS)
    old = file.read()
    file.add()
    file.retire(old)

    with pytest.raises(CannotRun, match="retired_keys"):
        put_back(line, urls, made.path)

    assert databases(real) == {real.name}
    psycopg.connect(urls.app).close()


def test_a_file_that_was_damaged_replaces_nothing(line: Line, urls: Urls, real: Database, tmp_path: Path) -> None:
    made = backup.make(urls.owner, tmp_path / "shop.dump")
    body = bytearray(made.path.read_bytes())
    body[len(body) // 2] ^= 1
    made.path.write_bytes(body)

    with pytest.raises(CannotRun, match="checksum"):
        put_back(line, urls, made.path)
    backup.sum_of(made.path).unlink()
    made.path.write_bytes(body[: len(body) // 2])
    with pytest.raises(CannotRun, match="pg_restore"):
        put_back(line, urls, made.path)

    assert databases(real) == {real.name}


def test_somebody_elses_database_is_let_be(server: Urls, urls: Urls, tmp_path: Path) -> None:
    made = backup.make(urls.owner, tmp_path / "shop.dump")
    with psycopg.connect(urls.owner) as connection:
        connection.execute("drop schema public cascade; create schema public; create table theirs ()")

    with pytest.raises(CannotRun, match="not ours"):
        restore.restore(Settings(data_dir=tmp_path), urls, made.path, replace=True, say=print)


def test_an_old_backup_is_brought_to_the_newest_schema(line: Line, urls: Urls, real: Database, tmp_path: Path) -> None:
    newest = versions(urls)
    with real.connected() as connection:
        command.downgrade(schema.configuration(connection), "0001")
    old = backup.make(urls.owner, tmp_path / "old.dump")

    put_back(line, urls, old.path)

    assert versions(urls) == newest
    open_shop(line)  # as the application's role: it has its rights again


# The drill --------------------------------------------------------------------------------------------------------


def test_a_drill_finds_the_restored_database_equal_and_leaves_nothing(line: Line, urls: Urls, real: Database) -> None:
    sell(line)

    report = drill.drill(line.settings, urls)

    told = drill.as_json(report)
    assert (told["ok"], told["differences"], told["findings"]) == (True, [], [])
    assert [step["name"] for step in told["steps"]] == [
        "back up",
        "read the real one",
        "verify the file",
        "restore",
        "compare and check",
        "migrate",
        "open with the keys",
        "delete",
    ]
    assert "equal" in drill.as_text(report)
    assert databases(real) == {real.name}
    assert list(daily_backup.directory(line.settings).iterdir()) == []


CHANGES = {
    "delete from timer": "timer: 2 rows",
    "create table stray ()": "stray: nothing became 0 rows",
    "update payment set amount_cents = amount_cents + 1, status = 'paid'": "payment: 2 rows",
    "select": "the checker finds paid_without_one_audit: 2",
    "select setval(pg_get_serial_sequence('payment', 'id'), 1, false)": "payment: row",
}


def test_a_drill_tells_what_differs(line: Line, urls: Urls, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = open_shop(line)
    for _ in range(2):
        shop.buy(line.world.telegram.person())
    fill = scratch.fill

    def fill_wrongly(database: Database, file: Path) -> None:
        fill(database, file)
        with database.connected() as connection:
            for change in CHANGES:
                connection.execute(text(change))

    monkeypatch.setattr(scratch, "fill", fill_wrongly)
    report = drill.drill(line.settings, urls)

    missed = [wanted for wanted in CHANGES.values() if not any(each.startswith(wanted) for each in report.differences)]
    assert missed == []
    assert not drill.as_json(report)["ok"]
    assert "DIFFERS" in drill.as_text(report)


# Every day --------------------------------------------------------------------------------------------------------


def test_each_days_backup_is_made_once_and_the_oldest_give_way(settings: Settings) -> None:
    settings = replace(settings, backups_kept=2)
    place = daily_backup.directory(settings)
    for day in range(4):
        path = daily_backup.make_if_due(settings)
        assert path
        assert daily_backup.make_if_due(settings) is None
        backup.sum_of(path).rename(place / f"bot-manager-{day}.dump.sha256")
        path.rename(place / f"bot-manager-{day}.dump")
        for left in place.glob("*.dump"):
            os.utime(left, (left.stat().st_mtime - 90_000,) * 2)

    assert {path.name for path in place.glob("*.dump")} == {"bot-manager-2.dump", "bot-manager-3.dump"}
    assert len(list(place.glob("*.sha256"))) == 2


def test_a_days_backup_that_fails_deletes_no_old_one_and_is_tried_again(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    path = daily_backup.make_if_due(settings)
    assert path
    os.utime(path, (0, 0))
    gone = replace(
        settings, backups_kept=1, database_owner_url=(settings.database_owner_url or "").replace("recovery_", "gone_")
    )

    assert daily_backup.make_if_due(gone) is None

    assert "could not be made" in caplog.text
    assert path.exists()


def test_what_a_killed_backup_left_is_cleared_away(settings: Settings) -> None:
    place = daily_backup.path_now(settings, "x").parent
    (place / ".bot-manager-1.dump.7.ab.part").write_text("half")

    daily_backup.make_if_due(settings)

    assert not list(place.glob(".*"))


def test_two_workers_make_one_backup(settings: Settings) -> None:
    with daily_backup._alone(settings) as mine:
        assert mine
        assert daily_backup.make_if_due(settings) is None


def test_no_backup_is_made_where_none_is_wanted_or_the_owner_is_unknown(settings: Settings) -> None:
    assert daily_backup.make_if_due(replace(settings, backups_kept=0)) is None
    assert daily_backup.make_if_due(replace(settings, database_owner_url=None)) is None
    assert not daily_backup.directory(settings).exists()


def test_the_doctor_warns_when_the_last_good_backup_is_old(line: Line) -> None:
    def found(settings: Settings) -> tuple[bool, bool]:
        with line.app.app_context():
            checks = doctor.checks(settings, offline=True)
        [check] = [check for check in checks if check.name == "cópia de segurança"]
        return check.ok, check.warning

    open_shop(line)
    assert found(line.settings) == (True, False)  # a new installation
    line.change("update \"user\" set created_at = now() - interval '3 days'")
    assert found(line.settings) == (False, True)
    path = daily_backup.make_if_due(line.settings)
    assert path
    assert found(line.settings) == (True, False)
    os.utime(path, (time.time() - 3 * 86_400,) * 2)
    assert found(line.settings) == (False, True)
    assert found(replace(line.settings, backups_kept=0)) == (True, False)
