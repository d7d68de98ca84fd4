"""The worker's door: runs jobs, keeps the clock, and polls bots where nothing can be pushed to us."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from bot_manager.app import Threads, create_core
from bot_manager.bots.polling import poll_bots
from bot_manager.channels.telegram import Telegram
from bot_manager.jobs import queue
from bot_manager.jobs.clock import Clock
from bot_manager.jobs.kinds import Runtime, runs
from bot_manager.jobs.queue import Worker
from bot_manager.ops import daily_backup, open_files
from bot_manager.settings import Settings

logger = logging.getLogger(__name__)

CONCURRENCY = 16
SUSPECTS_S = 2.0


async def work(settings: Settings, lanes: Sequence[str] = (), bots: bool = False) -> None:
    """Until SIGTERM or SIGINT. lanes: only these lanes' jobs; none means all. bots: poll as well."""
    stopping = _on_signals()
    open_files.raise_limit()
    app = create_core(settings, pool_size=CONCURRENCY)
    threads = Threads(app, CONCURRENCY)
    url = settings.database_url or ""
    clock = Clock(url, partial(daily_backup.make_if_due, settings))
    clock.start()
    async with Telegram(settings.telegram_api_url) as telegram:
        worker = Worker(url, runs(Runtime(threads, telegram)), lanes, CONCURRENCY)
        tasks = [worker.run(stopping), _have_suspects_run(threads, stopping)]
        if bots and settings.public_url is None:
            tasks.append(poll_bots(threads, telegram, stopping))
        await asyncio.gather(*tasks)
    await asyncio.to_thread(clock.stop)


async def _have_suspects_run(threads: Threads, stopping: asyncio.Event) -> None:
    """Jobs that may be what kills workers run in a process of their own, which lives as long as there are any."""
    while not await _stops_within(stopping, SUSPECTS_S):
        try:
            if await threads.in_db(None, queue.suspects_wait):
                child = await asyncio.create_subprocess_exec(sys.executable, "-m", "bot_manager", "alone")
                logger.warning("jobs that were there when workers died run alone", extra={"pid": child.pid})
                await child.wait()
        except (SQLAlchemyError, OSError) as error:
            logger.warning("the jobs that run alone wait", extra={"cause": type(error).__name__})


async def _stops_within(stopping: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def work_alone(settings: Settings) -> None:
    """Runs the jobs that have to run alone, one after the other, until none is due."""
    threads = Threads(create_core(settings, pool_size=2), 2)
    async with Telegram(settings.telegram_api_url) as telegram:
        kinds = runs(Runtime(threads, telegram, alone=True))
        await Worker(settings.database_url or "", kinds, [queue.ALONE], concurrency=1).drain()


async def poll(settings: Settings) -> None:
    """Polls bots and does nothing else, until SIGTERM or SIGINT."""
    stopping = _on_signals()
    open_files.raise_limit()
    threads = Threads(create_core(settings, pool_size=4), 4)
    async with Telegram(settings.telegram_api_url) as telegram:
        await poll_bots(threads, telegram, stopping)


def _on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    return stopping
