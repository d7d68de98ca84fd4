"""Migrations: up gives what the models say, down takes it all away, and the engine's SQL is the pinned one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import procrastinate
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text

from bot_manager.ops.postgres import Urls
from bot_manager.ops.schema import configuration, engine_url, migrate
from models import Base
from tests.conftest import named
from tests.until import until

OURS = Path(__file__).parents[1] / "migrations" / "procrastinate_3.10.0.sql"


@pytest.fixture
def empty(server: Urls, worker_id: str) -> Iterator[Engine]:
    name = f"empty_{worker_id}"
    admin = create_engine(engine_url(server.owner), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"drop database if exists {name} with (force)"))
        connection.execute(text(f"create database {name}"))
    engine = create_engine(engine_url(named(server.owner, name)))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    admin.dispose()


def test_migrations_make_what_the_models_say(empty: Engine) -> None:
    migrate(empty.url.render_as_string(hide_password=False), "bot_manager")

    with empty.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": _ours})
        assert compare_metadata(context, Base.metadata) == []


# Named by no code of ours; a version that still runs beside this one may select them, so they go with a later one.
LEFT_BEHIND = {("seller", "turn")}


def _ours(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
    if kind == "column":
        return (parents["table_name"], name) not in LEFT_BEHIND
    return not (kind == "table" and name is not None and name.startswith(("procrastinate_", "alembic_")))


def test_going_down_leaves_nothing_and_up_again_works(empty: Engine) -> None:
    migrate(empty.url.render_as_string(hide_password=False), "bot_manager")
    with empty.begin() as connection:
        command.downgrade(configuration(connection), "base")
        left = connection.execute(
            text("select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'")
        ).scalars()
        functions = connection.execute(
            text("select proname from pg_proc where pronamespace = 'public'::regnamespace")
        ).scalars()
        types = connection.execute(
            text("select typname from pg_type where typnamespace = 'public'::regnamespace and typtype = 'e'")
        ).scalars()

        assert (set(left), set(functions), set(types)) == ({"alembic_version"}, set(), set())

    migrate(empty.url.render_as_string(hide_password=False), "bot_manager")


SOLD = """
    insert into seller (id, name, email) overriding system value values (1, 'Loja', 'a@example.com');
    insert into bot (id, seller_id, key, public_id, token_sealed) overriding system value values (1, 1, 'b', 'p', 'x');
    insert into offer (id, seller_id, key, name, price_cents, delivers) overriding system value
     values (1, 1, 'vip', 'VIP', 100, '[]');
    insert into customer (id, seller_id, bot_id, channel, chat_id, external_id) overriding system value
     values (1, 1, 1, 'telegram', '7', 'e');
    insert into payment (id, payment_id, seller_id, bot_id, customer_id, offer_id, offer_name, items, amount_cents, status,
     webhook_token, trace_id, expires_at) overriding system value
     values (1, 'BOT1_1', 1, 1, 1, 1, 'VIP', '[{"kind": "link", "url": "x"}, {"kind": "group", "chat_id": -5, "days": 30}]',
     100, 'paid', 'w', 't', now());
    insert into delivery (seller_id, payment_id, item, state, delivered_at) values
     (1, 1, 0, 'delivered', now()), (1, 1, 1, 'delivered', now() - interval '10 days')"""


def test_access_that_was_sold_before_it_was_kept_ends_as_it_was_told(empty: Engine) -> None:
    with empty.begin() as connection:
        command.upgrade(configuration(connection), "0001")
        connection.execute(text(SOLD))

    migrate(empty.url.render_as_string(hide_password=False), "bot_manager")

    with empty.connect() as connection:
        granted = connection.execute(text("select group_id, round(extract(day from ends_at - now())) from access"))
        assert granted.all() == [(-5, 19)]
        timers = connection.execute(text("select kind, args from timer order by kind")).all()
        assert timers == [("connect_bot", {"bot": 1}), ("end_access", {"access": 1})]


def test_migrating_twice_changes_nothing(empty: Engine) -> None:
    url = empty.url.render_as_string(hide_password=False)

    migrate(url, "bot_manager")
    migrate(url, "bot_manager")


def test_an_index_that_came_late_is_built_while_others_write(empty: Engine) -> None:
    url = empty.url.render_as_string(hide_password=False)
    migrate(url, "bot_manager")
    with empty.begin() as connection:
        connection.execute(text(SOLD))
        connection.execute(text("drop index ix_charge_attempt_transfer"))
    built = Thread(target=migrate, args=(url, "bot_manager"))

    with empty.connect() as writer:  # a build inside a transaction would wait for it, and all others for that
        writer.execute(text("lock table charge_attempt in row exclusive mode"))
        built.start()
        until(lambda: _there(empty) == [False])
        with empty.begin() as other:
            other.execute(text("set local lock_timeout = '5s'"))
            other.execute(text("update charge_attempt set error = 'x'"))
    built.join()

    assert _there(empty) == [True]


def test_an_index_whose_building_was_cut_off_is_built_anew(empty: Engine) -> None:
    url = empty.url.render_as_string(hide_password=False)
    migrate(url, "bot_manager")
    with empty.begin() as connection:
        connection.execute(
            text("update pg_index set indisvalid = false where indexrelid = 'ix_charge_attempt_transfer'::regclass")
        )

    migrate(url, "bot_manager")

    assert _there(empty) == [True]


def _there(engine: Engine) -> list[bool]:
    """Whether the index of transfers is valid; nothing when there is none."""
    named = "select indisvalid from pg_index where indexrelid = to_regclass('ix_charge_attempt_transfer')"
    with engine.connect() as connection:
        return list(connection.execute(text(named)).scalars())


def test_a_database_of_a_newer_version_is_left_as_it_is(empty: Engine) -> None:
    url = empty.url.render_as_string(hide_password=False)
    migrate(url, "bot_manager")
    with empty.begin() as connection:
        connection.execute(text("update alembic_version set version_num = 'of_tomorrow'"))

    migrate(url, "bot_manager")

    with empty.connect() as connection:
        assert connection.execute(text("select version_num from alembic_version")).scalar() == "of_tomorrow"


def test_the_job_engines_schema_is_the_one_of_the_installed_version() -> None:
    theirs = Path(procrastinate.__path__[0]) / "sql" / "schema.sql"

    assert version("procrastinate").startswith("3.10.")
    assert OURS.read_text() == theirs.read_text()
