"""Connections that rested in a pool while the database was restarted are replaced before anybody meets them."""

from __future__ import annotations

import asyncio
from contextlib import closing

import psycopg
from sqlalchemy import Engine, text

from bot_manager.app import create_core
from bot_manager.database.liveness import hung_up
from bot_manager.jobs import queue
from bot_manager.settings import Settings
from models import db
from tests.until import until

END_ALL = text(
    "select count(pg_terminate_backend(pid)) from pg_stat_activity"
    " where datname = current_database() and pid <> pg_backend_pid()"
)


def end_connections(owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(END_ALL)


def test_a_connection_that_answers_has_not_hung_up(settings: Settings) -> None:
    with psycopg.connect(settings.database_url or "") as connection:
        connection.execute("select 1")

        assert not hung_up(connection)

    assert hung_up(connection)


def test_a_connection_that_the_server_ended_has_hung_up(settings: Settings, owner: Engine) -> None:
    with closing(psycopg.connect(settings.database_url or "")) as connection:
        end_connections(owner)

        until(lambda: hung_up(connection))


def test_a_transaction_begins_on_a_new_connection_when_the_pooled_one_was_ended(
    settings: Settings, owner: Engine
) -> None:
    app = create_core(settings)
    with app.app_context():
        rested = db.session.connection().connection.driver_connection
        db.session.remove()
        end_connections(owner)
        until(lambda: hung_up(rested))

        assert db.session.execute(text("select 1")).scalar_one() == 1

        db.session.remove()
        db.engine.dispose()


def test_the_job_engine_works_on_after_its_pooled_connections_were_ended(settings: Settings, owner: Engine) -> None:
    async def work() -> int:
        async with queue._pool(conninfo=settings.database_url, min_size=1, max_size=1, open=False) as pool:
            async with pool.connection() as rested:
                await rested.execute("select 1")
            await asyncio.to_thread(end_connections, owner)
            await asyncio.to_thread(until, lambda: hung_up(rested))
            async with pool.connection() as fresh:
                found = await (await fresh.execute("select 1")).fetchone()
        return int(found[0]) if found else 0

    assert asyncio.run(work()) == 1
