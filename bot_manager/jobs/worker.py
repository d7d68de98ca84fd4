"""The worker's door: runs jobs, keeps the clock, and polls bots where nothing can be pushed to us."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from functools import partial

from bot_manager.app import Threads, create_core
from bot_manager.channels.telegram import Telegram
from bot_manager.jobs.clock import Clock
from bot_manager.jobs.kinds import Runtime, runs
from bot_manager.jobs.queue import Worker
from bot_manager.ops import daily_backup
from bot_manager.polling import poll_bots
from bot_manager.settings import Settings, engine_url

logger = logging.getLogger(__name__)

CONCURRENCY = 16


async def work(settings: Settings, lanes: Sequence[str] = (), bots: bool = False) -> None:
    """Until SIGTERM or SIGINT. lanes: only these lanes' jobs; none means all. bots: poll as well."""
    stopping = _on_signals()
    app = create_core(settings, pool_size=CONCURRENCY)
    threads = Threads(app, CONCURRENCY)
    url = settings.database_url or ""
    clock = Clock(engine_url(url), partial(daily_backup.make_if_due, settings))
    clock.start()
    async with Telegram(settings.telegram_api_url) as telegram:
        worker = Worker(url, runs(Runtime(threads, telegram)), lanes, CONCURRENCY)
        tasks = [worker.run(stopping)]
        if bots and settings.public_url is None:
            tasks.append(poll_bots(threads, telegram, stopping))
        await asyncio.gather(*tasks)
    await asyncio.to_thread(clock.stop)


async def poll(settings: Settings) -> None:
    """Polls bots and does nothing else, until SIGTERM or SIGINT."""
    stopping = _on_signals()
    threads = Threads(create_core(settings, pool_size=4), 4)
    async with Telegram(settings.telegram_api_url) as telegram:
        await poll_bots(threads, telegram, stopping)


def _on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    return stopping
