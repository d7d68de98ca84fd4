"""The clock: APScheduler's ticks, each one short statement that is safe to run twice.

Every worker has a clock, and a tick runs under an advisory lock of its transaction: two clocks never tick at the same
moment, and one that is stopped or paused holds nothing that the others need.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from bot_manager import limits, logins, security
from bot_manager.jobs import queue

logger = logging.getLogger(__name__)

Tick = Callable[[Connection], object]

_TAKE = text("select pg_try_advisory_xact_lock(hashtext('clock'), hashtext(:tick))")


class Clock:
    def __init__(self, engine_url: str) -> None:
        self._engine = create_engine(engine_url, pool_size=1, max_overflow=0)
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": 30},
        )
        self._every(1, queue.sweep_timers)
        self._every(1, queue.free_the_dead)
        self._every(10, queue.clean_up)  # 500 jobs a second, more than a worker ends: what is left would only grow
        self._every(60, security.forget_security_events)
        self._every(600, limits.drop_full_allowances)
        self._every(600, logins.drop_old_logins)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
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
