"""Migrations: brings the database to the newest schema and hands the application's role its rights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Index, create_engine, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.schema import CreateIndex

from bot_manager.settings import engine_url
from models import Base

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_ONE_AT_A_TIME = 7_263_001  # any fixed number: the advisory lock of migrations


def migrate(owner_url: str, app_role: str) -> None:
    """Upgrades to head, grants, and builds what indexes are missing. Several processes may call it at once.

    A database that a newer program has migrated is left as it is: migrations only add, so that this one works on it.
    """
    with _connected(owner_url) as connection:
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
        stored = version(connection)
        if stored and stored not in known_versions(connection):
            logger.warning("the database is of a newer version, and left as it is", extra={"version": stored})
        else:
            command.upgrade(configuration(connection), "head")
        _grant(connection, app_role)
        missing = _missing(connection)
    if missing:
        _build(owner_url, missing)


def _missing(connection: Connection) -> list[Index]:
    """The late indexes that are not there, or that a build which was cut off has left of no use."""
    there = set(connection.scalars(text("select indexrelid::regclass::text from pg_index where indisvalid")))
    every = (index for table in Base.metadata.sorted_tables for index in table.indexes)
    late = [index for index in every if index.dialect_options["postgresql"]["concurrently"]]
    return [index for index in late if index.name not in there]


def _build(url: str, indexes: Sequence[Index]) -> None:
    """One after the other, outside any transaction: whoever writes waits for none of them. One process at a time."""
    engine = create_engine(engine_url(url), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            if connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": _ONE_AT_A_TIME + 1}):
                for index in indexes:
                    index.drop(connection, checkfirst=True)
                    connection.execute(CreateIndex(index, if_not_exists=True))
    finally:
        engine.dispose()


def version(connection: Connection) -> str | None:
    """The migration that the database was last brought to; None when it has no tables of ours."""
    if connection.execute(text("select to_regclass('public.alembic_version')")).scalar() is None:
        return None
    found: str | None = connection.execute(text("select version_num from alembic_version")).scalar()
    return found


def known_versions(connection: Connection) -> set[str]:
    """The migrations that this program has."""
    return {each.revision for each in ScriptDirectory.from_config(configuration(connection)).walk_revisions()}


def configuration(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_ROOT / "migrations"))
    config.attributes["connection"] = connection
    return config


def role_of(database_url: str) -> str:
    """The role that an address logs in with."""
    return make_url(database_url).username or "bot_manager"


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = create_engine(engine_url(url))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _grant(connection: Connection, role: str) -> None:
    quote = connection.dialect.identifier_preparer.quote
    quoted, database = quote(role), quote(connection.execute(text("select current_database()")).scalar_one())
    for statement in (
        f"grant connect on database {database} to {quoted}",  # a restore that was cut off has taken it away
        f"grant usage on schema public to {quoted}",
        f"grant select, insert, update, delete on all tables in schema public to {quoted}",
        f"grant usage, select on all sequences in schema public to {quoted}",
        f"revoke insert, update, delete on alembic_version from {quoted}",
    ):
        connection.execute(text(statement))
