"""The clock: APScheduler's ticks, each one short statement that is safe to run twice.

Every worker has a clock, and a tick runs under an advisory lock of its transaction: two clocks never tick at the same
moment, and one that is stopped or paused holds nothing that the others need.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from bot_manager.database import patience
from bot_manager.jobs import queue
from bot_manager.payments import ledger, reconcile
from bot_manager.security import events, limits, logins

logger = logging.getLogger(__name__)

Tick = Callable[[Connection], object]

_TAKE = text(f"select pg_try_advisory_xact_lock(hashtext('clock'), hashtext(:tick)), {patience.SERVER_SIDE}")


def sweep(connection: Connection) -> None:
    """Due timers become jobs; after an absence not all at once, so that this is looked at before."""
    try:
        with connection.begin_nested():
            reconcile.beat(connection)
    except SQLAlchemyError:
        logger.exception("an absence could not be looked at")  # it is tried again, and must not stop the timers
    queue.sweep_timers(connection)


class Clock:
    """every_hour: what takes its time, and gets a thread of its own; called with an event that is set at the stop."""

    def __init__(self, url: str, every_hour: Callable[[Event], object] | None = None) -> None:
        self._stopping = Event()
        self._engine = create_engine(
            "postgresql+psycopg://", creator=patience.connector(url), pool_size=1, max_overflow=0
        )
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(1), "slow": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": 30},
        )
        self._every(1, sweep)
        self._every(1, queue.free_the_dead)
        self._every(10, queue.clean_up)  # 500 jobs a second, more than a worker ends: what is left would only grow
        self._every(10, ledger.catch_up)
        self._every(60, events.forget_security_events)
        self._every(600, limits.drop_full_allowances)
        self._every(600, logins.drop_old_logins)
        if every_hour:
            soon = datetime.now(UTC) + timedelta(minutes=1)
            options = {"id": "every_hour", "executor": "slow", "next_run_time": soon, "misfire_grace_time": 3600}
            self._scheduler.add_job(every_hour, "interval", (self._stopping,), hours=1, **options)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._stopping.set()
        self._scheduler.shutdown(wait=True)
        self._engine.dispose()

    def _every(self, seconds: int, tick: Tick) -> None:
        self._scheduler.add_job(self._run, "interval", (tick,), seconds=seconds, id=tick.__name__)

    def _run(self, tick: Tick) -> None:
        try:
            with self._engine.begin() as connection:
                if connection.scalar(_TAKE, {"tick": tick.__name__}):
                    tick(connection)
        except SQLAlchemyError as error:
            logger.warning("a tick of the clock was lost", extra={"tick": tick.__name__, "cause": type(error).__name__})
