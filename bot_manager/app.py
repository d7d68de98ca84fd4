"""The core: Flask for its context and configuration, the database, the seller a transaction acts for.

Every transaction tells PostgreSQL the seller it acts for (`app.seller`), and row-level security does the rest.
`look_across_sellers` lets the operator and the clock read everybody's rows; writing always needs a seller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from flask import Flask, current_app
from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import Pool

from bot_manager import log
from bot_manager.database import patience
from bot_manager.database.liveness import hung_up
from bot_manager.security.vault import Vault, open_vault
from bot_manager.settings import Settings, engine_url
from models import db

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

POOL_SIZE = 8
RECYCLE_S = 1800  # what PostgreSQL's end of a connection remembers of tables and plans is never given back

# The timeouts for this transaction are the server's to keep; where it can't, `patience` ends the wait on our side.
_ACT_FOR = text(
    "select set_config('app.seller', :seller, true), set_config('app.operator', :operator, true),"
    f" {patience.SERVER_SIDE}"
)


def create_core(settings: Settings, pool_size: int = POOL_SIZE) -> Flask:
    """The application without any route: settings, vault and database. Needs `settings.database_url`."""
    if settings.database_url is None:
        raise ValueError("create_core needs a database address: see bot_manager.ops.postgres")
    app = Flask("bot_manager", static_folder=None)
    app.config.update(
        SQLALCHEMY_DATABASE_URI=engine_url(settings.database_url),
        SQLALCHEMY_ENGINE_OPTIONS={
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": 5,
            "pool_recycle": RECYCLE_S,
            "hide_parameters": True,  # errors quote statements, and what was to be stored is none of the log's business
            "creator": patience.connector(settings.database_url),
        },
    )
    app.extensions["settings"] = settings
    app.extensions["vault"] = open_vault(settings)
    app.extensions["clock"] = _utc
    db.init_app(app)
    return app


def settings() -> Settings:
    found: Settings = current_app.extensions["settings"]
    return found


def vault() -> Vault:
    found: Vault = current_app.extensions["vault"]
    return found


def now() -> datetime:
    """The application's clock, in UTC; `app.extensions["clock"]` may be set to another one."""
    told: datetime = current_app.extensions["clock"]()
    return told


def _utc() -> datetime:
    return datetime.now(UTC)


def act_for(seller_id: int) -> None:
    """From here on this app context reads and writes one seller's rows only."""
    _become({"seller": str(seller_id), "operator": ""})
    log.seller_id.set(seller_id)


def look_across_sellers() -> None:
    """From here on this app context reads all sellers' rows, and can write none of them."""
    _become({"seller": "", "operator": "on"})


def _become(who: dict[str, str]) -> None:
    session = db.session()
    session.info["who"] = who
    if session.in_transaction():
        session.execute(_ACT_FOR, who)


@event.listens_for(Session, "after_begin")
def _tell_who(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    if who := session.info.get("who"):
        connection.execute(_ACT_FOR, who)


@event.listens_for(Pool, "checkout")
def _replace_the_dead(connection: Any, *_: object) -> None:
    """Nobody is sent away because the database was restarted before: the pool opens another connection."""
    if hung_up(connection):
        raise DisconnectionError("the server has hung up")


@contextmanager
def context(app: Flask, seller_id: int | None) -> Iterator[None]:
    """An app context that acts for one seller; what is not committed inside is rolled back."""
    with app.app_context():
        if seller_id is not None:
            act_for(seller_id)
        yield


class Threads:
    """The way from async code to the database: own threads, an app context in each, one transaction, plain values."""

    def __init__(self, app: Flask, size: int) -> None:
        self.app = app
        self.executor = ThreadPoolExecutor(size, thread_name_prefix="db")

    async def in_db(self, seller_id: int | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `work` in one transaction and hands back plain values, never ORM objects."""

        def transaction() -> T:
            result = work(*args, **kwargs)
            db.session.commit()
            return result

        return await self.run(seller_id, transaction)

    async def run(self, seller_id: int | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `work` in an app context of its own that acts for the seller; it commits as it goes."""
        surroundings = copy_context()

        def call() -> T:
            with context(self.app, seller_id):
                return work(*args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self.executor, surroundings.run, call)
