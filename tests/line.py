"""The whole line inside one process, for tests: an HTTP server, the jobs run when asked, the clock set forward."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from typing import Any, Self

from sqlalchemy import create_engine, text

from bot_manager import sales
from bot_manager.app import Threads, act_for
from bot_manager.channels.telegram import Telegram
from bot_manager.jobs import queue
from bot_manager.jobs.clock import Clock
from bot_manager.jobs.kinds import Runtime, runs
from bot_manager.settings import Settings, engine_url
from models import Payment, db
from tests.serving import Serving
from tests.world import World
from web import create_app


class Line:
    """The product on a loopback port of its own, with PUBLIC_URL pointing there."""

    def __init__(self, settings: Settings, world: World) -> None:
        self.world = world
        self._serving = Serving(self._serve)
        self.url = self._serving.url
        self.settings = replace(settings, public_url=self.url)
        self.app = create_app(self.settings)
        self._owner = create_engine(engine_url(settings.database_owner_url or ""))

    def _serve(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)  # which is made when the port is known

    def __enter__(self) -> Self:
        self._serving.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__()
        self._owner.dispose()
        with self.app.app_context():
            db.session.remove()
            for engine in db.engines.values():
                engine.dispose()

    def work(self) -> None:
        """Takes in what was pushed, then runs every job that is ready, and those that these make, until none is."""
        telegram = self.world.telegram
        telegram.wait_for(lambda: not any(telegram.pending(bot) for bot in telegram.bots if telegram.webhook(bot)))
        asyncio.run(self._work())

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker that runs beside the test, and the clock with it."""
        clock = Clock(self.settings.database_url or "")
        loop, stopping = asyncio.new_event_loop(), asyncio.Event()
        thread = Thread(target=loop.run_until_complete, args=(self._run(stopping),))
        clock.start()
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(stopping.set)
            thread.join()
            loop.close()
            clock.stop()

    async def _run(self, stopping: asyncio.Event) -> None:
        threads = Threads(self.app, 4)
        async with Telegram(self.settings.telegram_api_url) as telegram:
            await queue.Worker(self.settings.database_url or "", runs(Runtime(threads, telegram))).run(stopping)
        threads.executor.shutdown()

    async def _work(self) -> None:
        threads = Threads(self.app, 4)
        async with Telegram(self.settings.telegram_api_url) as telegram:
            worker = queue.Worker(self.settings.database_url or "", runs(Runtime(threads, telegram)))
            while self._ready():
                await worker.drain()
        threads.executor.shutdown()

    def approve(self, payment: dict[str, Any]) -> None:
        """Approves a test sale, as the panel's button does."""
        with self.seller(payment["seller_id"]):
            sales.approve_test_sale(db.session.get_one(Payment, payment["id"]))
            db.session.commit()
        self.work()

    def idle(self) -> bool:
        """Whether no job runs or could run."""
        return not self._ready() and not self.rows("select 1 from procrastinate_jobs where status = 'doing' limit 1")

    def _ready(self) -> bool:
        ready = (
            "select 1 from procrastinate_jobs where status = 'todo' and coalesce(scheduled_at, now()) <= now() limit 1"
        )
        return bool(self.rows(ready))

    def pass_time(self, seconds: float) -> None:
        """Timers and waiting retries come nearer by so much; what falls due is run."""
        with self._owner.begin() as connection:
            moved = {"seconds": seconds}
            connection.execute(text("update timer set due_at = due_at - make_interval(secs => :seconds)"), moved)
            connection.execute(
                text("update procrastinate_jobs set scheduled_at = scheduled_at - make_interval(secs => :seconds)"),
                moved,
            )
            queue.sweep_timers(connection)
        self.work()

    @contextmanager
    def seller(self, seller_id: int) -> Iterator[None]:
        """An app context that acts for one seller."""
        with self.app.app_context():
            act_for(seller_id)
            yield

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """The owner's view of the database, past row-level security."""
        with self._owner.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(text(sql), values)]

    def change(self, sql: str, **values: Any) -> None:
        with self._owner.begin() as connection:
            connection.execute(text(sql), values)
