"""Backup, restore and drill on a server that is not ours, by roles without any power there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine

from bot_manager.ops.checker import check
from bot_manager.settings import engine_url
from tests import ledger
from tests.shops import open_shop
from tests.test_recovery import LINK, PATIENCE_S, charge, pay, sell
from tests.theirs import Guest, Theirs
from tests.until import until
from tests.world import World

pytestmark = pytest.mark.slow


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Theirs]:
    with Theirs(tmp_path / "theirs") as server:
        yield server


@pytest.fixture
def product(theirs: Theirs, tmp_path: Path) -> Iterator[Guest]:
    with World() as world, Guest(world, tmp_path, theirs, FORMAT="json") as whole:
        whole.start()
        yield whole


def databases(theirs: Theirs) -> set[str]:
    with psycopg.connect(theirs.url("admin")) as connection:
        return {name for (name,) in connection.execute("select datname from pg_database where not datistemplate")}


def test_a_shop_is_backed_up_restored_and_drilled_on_a_server_that_is_not_ours(
    product: Guest, theirs: Theirs, tmp_path: Path
) -> None:
    world, shop = product.world, open_shop(product, gateways=("pushinpay",))
    sell(shop)
    person, code = charge(shop)
    doctor = product.command("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    file = tmp_path / "shop.dump"
    made = product.command("backup", str(file))
    assert made.returncode == 0, made.stderr

    drilled = product.command("drill")
    assert drilled.returncode == 0, drilled.stdout + drilled.stderr
    assert json.loads(drilled.stdout)["differences"] == []
    refused = product.command("restore", str(file), "--replace")
    assert refused.returncode == 2

    charge(shop)  # after the backup: nobody will know of it
    product.stop()
    pay(world, code)
    for role in ("admin", "shop_app"):  # of whose sessions the owner is told little
        with psycopg.connect(theirs.url(role, "shop"), application_name="a report"):
            watched = product.command("restore", str(file), "--replace")
        assert watched.returncode == 2
        assert f"1 of {role} (a report) from somewhere" in watched.stderr
    restored = product.command("restore", str(file), "--replace")
    assert restored.returncode == 0, restored.stderr
    assert databases(theirs) == {"postgres", "shop"}

    product.start()
    person.wait_text(shop.token, LINK, PATIENCE_S)
    sell(shop)
    assert product.command("doctor").returncode == 0
    assert_the_books_agree(product, 3)


def assert_the_books_agree(product: Guest, sales: int) -> None:
    engine = create_engine(engine_url(product.urls.owner))

    def at_rest() -> bool:
        with engine.connect() as connection:
            return not check(connection, timedelta(0))

    until(at_rest, 60)
    engine.dispose()
    assert product.rows("select count(*) as n from payment where status = 'paid'") == [{"n": sales}]
    assert ledger.repeated(product.world, product.rows) == 0
