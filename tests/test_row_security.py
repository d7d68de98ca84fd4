"""Row-level security: one seller's rows for whom acts for that seller, whatever the code forgets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError

from bot_manager import sellers
from bot_manager.app import act_for, look_across_sellers
from bot_manager.ops.postgres import Urls
from bot_manager.settings import engine_url
from models import OUTSIDE_RLS, ROW_SECURED, Base, Gateway, Offer, Seller, db

ACT_FOR = text("select set_config('app.seller', :seller, true)")


@pytest.fixture
def two_sellers(app: Flask) -> tuple[int, int]:
    made = []
    for name in ("ana", "caio"):
        made.append(sellers.create(name, f"{name}@example.com").seller_id)
        db.session.add(Offer(seller_id=made[-1], key="curso", name="Curso", price_cents=100, delivers=[]))
        db.session.commit()
    return made[0], made[1]


@pytest.fixture
def connection(database: Urls, two_sellers: tuple[int, int]) -> Iterator[Connection]:
    """The application's role, with nothing of ours in between."""
    engine = create_engine(engine_url(database.app))
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def visible(connection: Connection, seller: int | None) -> int:
    connection.execute(ACT_FOR, {"seller": "" if seller is None else str(seller)})
    return int(connection.execute(text("select count(*) from offer")).scalar_one())


def test_every_table_is_either_secured_or_named_as_outside() -> None:
    with_seller = {name for name, table in Base.metadata.tables.items() if "seller_id" in table.c}

    assert set(ROW_SECURED) | OUTSIDE_RLS == set(Base.metadata.tables)
    assert with_seller - set(ROW_SECURED) == {"membership", "door", "timer", "lookup", "security_event"}


@pytest.mark.parametrize("table", ROW_SECURED)
def test_the_policy_stands_on_every_secured_table(owner: Engine, database: Urls, table: str) -> None:
    with owner.connect() as connection:
        row = connection.execute(
            text("select relrowsecurity from pg_class where oid = cast(:name as regclass)"), {"name": table}
        ).scalar_one()
        policies = connection.execute(
            text("select policyname from pg_policies where tablename = :name order by 1"), {"name": table}
        ).scalars()

        assert row
        assert list(policies) == ["operator_reads", "own_rows"]


def test_a_seller_sees_their_rows_and_no_others(connection: Connection, two_sellers: tuple[int, int]) -> None:
    ana, caio = two_sellers

    assert (visible(connection, ana), visible(connection, caio), visible(connection, None)) == (1, 1, 0)


def test_the_next_transaction_on_the_same_connection_acts_for_nobody(
    connection: Connection, two_sellers: tuple[int, int]
) -> None:
    assert visible(connection, two_sellers[0]) == 1
    connection.rollback()

    assert connection.execute(text("select count(*) from offer")).scalar_one() == 0


def test_nobody_writes_another_sellers_rows(connection: Connection, two_sellers: tuple[int, int]) -> None:
    ana, caio = two_sellers
    connection.execute(ACT_FOR, {"seller": str(ana)})

    changed = connection.execute(text("update offer set price_cents = 1 where seller_id = :caio"), {"caio": caio})
    assert changed.rowcount == 0
    stolen = text("insert into offer (seller_id, key, name, price_cents, delivers) values (:caio, 'x', 'x', 1, '[]')")
    with pytest.raises(ProgrammingError, match="row-level security"):
        connection.execute(stolen, {"caio": caio})


def test_looking_across_sellers_reads_and_never_writes(app: Flask, two_sellers: tuple[int, int]) -> None:
    look_across_sellers()

    assert len(db.session.query(Seller).all()) == 2
    assert db.session.execute(text("update offer set price_cents = 1")).rowcount == 0


def test_the_application_acts_for_one_seller_after_the_other(app: Flask, two_sellers: tuple[int, int]) -> None:
    for seller in two_sellers:
        act_for(seller)
        assert {gateway.seller_id for gateway in db.session.query(Gateway)} == {seller}
        db.session.commit()
        assert {gateway.seller_id for gateway in db.session.query(Gateway)} == {seller}


def test_the_applications_role_has_no_way_around(connection: Connection) -> None:
    row = connection.execute(
        text("select rolsuper, rolbypassrls, rolcreaterole from pg_roles where rolname = current_user")
    ).one()
    owned = connection.execute(text("select count(*) from pg_tables where tableowner = current_user")).scalar_one()

    assert (*row, owned) == (False, False, False, 0)
    with pytest.raises(ProgrammingError):
        connection.execute(text("alter table offer disable row level security"))


def test_without_the_policy_these_tests_would_be_red(
    owner: Engine, connection: Connection, two_sellers: tuple[int, int]
) -> None:
    with owner.begin() as taking_away:
        taking_away.execute(text("alter table offer disable row level security"))
    try:
        assert visible(connection, two_sellers[0]) == 2
        connection.rollback()
    finally:
        with owner.begin() as giving_back:
            giving_back.execute(text("alter table offer enable row level security"))
