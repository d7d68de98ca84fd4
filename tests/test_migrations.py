"""Migrations: up gives what the models say, down takes it all away, and the engine's SQL is the pinned one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

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


def _ours(name: str | None, kind: str, _parents: object) -> bool:
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


def test_migrating_twice_changes_nothing(empty: Engine) -> None:
    url = empty.url.render_as_string(hide_password=False)

    migrate(url, "bot_manager")
    migrate(url, "bot_manager")


def test_the_job_engines_schema_is_the_one_of_the_installed_version() -> None:
    theirs = Path(procrastinate.__path__[0]) / "sql" / "schema.sql"

    assert version("procrastinate").startswith("3.10.")
    assert OURS.read_text() == theirs.read_text()
