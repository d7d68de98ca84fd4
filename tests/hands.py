"""A worker whose every move a test chooses: which job, one at a time, killed or stopped between its transactions.

A job does its work in transactions, with calls to other companies between them. So all that a kill can leave behind is
reached by ending a run before one of its transactions begins, or after one is committed; and a run that is stopped
there and woken later is a worker that was paused, while another did its job.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from procrastinate.exceptions import ConnectorException
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker import Worker as Engine
from sqlalchemy import event
from sqlalchemy.orm import Session

from bot_manager.app import Threads
from bot_manager.channels.telegram import Telegram
from bot_manager.jobs import queue
from bot_manager.jobs.kinds import Runtime, runs
from bot_manager.jobs.names import Name
from tests.line import Line

_PATIENCE_S = 30  # for one job
_READY = "status = 'todo' and coalesce(scheduled_at, now()) <= now()"


class Killed(BaseException):
    """The process is gone: nothing that stands after this line is done."""


@dataclass(frozen=True)
class Moment:
    """Before the nth transaction of a run begins, or after it is committed; nth counts from 0."""

    when: Literal["begin", "commit"]
    nth: int


@dataclass(eq=False)
class Run:
    """One job under way. at: when it is killed or stopped, if that moment comes."""

    at: Moment | None = None
    kills: bool = True
    job: Job | None = None
    dead: bool = False
    task: asyncio.Task[None] | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    woken: threading.Event = field(default_factory=threading.Event)
    _seen: Counter[str] = field(default_factory=Counter)

    @property
    def under_way(self) -> bool:
        return self.task is not None and not self.task.done()

    @property
    def sends(self) -> bool:
        """Whether it is one that writes to customers."""
        return self.job is not None and self.job.task_name in (Name.SEND, Name.DELIVER)

    def reach(self, when: Literal["begin", "commit"], loop: asyncio.AbstractEventLoop) -> None:
        here = Moment(when, self._seen[when])
        self._seen[when] += 1
        if here == self.at and not self.kills:
            loop.call_soon_threadsafe(self.stopped.set)
            self.woken.wait()
        self.dead = self.dead or (here == self.at and self.kills)
        if self.dead:
            raise Killed


_run: ContextVar[tuple[Run, asyncio.AbstractEventLoop] | None] = ContextVar("run", default=None)


@event.listens_for(Session, "after_begin")
def _before_its_first_statement(*_: Any) -> None:
    if current := _run.get():
        current[0].reach("begin", current[1])


@event.listens_for(Session, "after_commit")
def _once_it_is_kept(_session: Session) -> None:
    if current := _run.get():
        current[0].reach("commit", current[1])


class _Manager(JobManager):
    """The engine's own, which fetches by priority; the dead write nothing down, and who was taken for dead can't."""

    async def finish_job(self, *args: Any, **options: Any) -> None:
        if not _is_dead():
            with suppress(ConnectorException):
                await super().finish_job(*args, **options)

    async def retry_job(self, *args: Any, **options: Any) -> None:
        if not _is_dead():
            with suppress(ConnectorException):
                await super().retry_job(*args, **options)


def _is_dead() -> bool:
    current = _run.get()
    return current is not None and current[0].dead


class Hands:
    """Runs a line's jobs. Close it before the line: a stopped run holds a connection."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.runs: list[Run] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hands", daemon=True)
        self._thread.start()
        self._call(self._open())

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_S)

    async def _open(self) -> None:
        self._threads = Threads(self.line.app, 8)
        self._telegram = await Telegram(self.line.settings.telegram_api_url).__aenter__()
        jobs = runs(Runtime(self._threads, self._telegram))
        self._app = queue.Worker(self.line.settings.database_url or "", jobs)._app
        self._app.job_manager = _Manager(self._app.connector)
        self._engine = Engine(self._app)
        await self._app.open_async()
        self.alive = await self._app.job_manager.register_worker()

    def close(self) -> None:
        self.wake_all()
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        await self._app.close_async()
        await self._telegram.__aexit__()
        self._threads.executor.shutdown()

    # One job

    def do(self, lane: str | None = None, pick: int = 0, at: Moment | None = None, *, kills: bool = True) -> Run | None:
        """Runs one of the jobs that are ready, until it ends or is stopped; None when none can run.

        pick: which of the lane's, the oldest first; counted round and round.
        """
        self._prefer(lane, pick)
        return self._call(self._do(lane, Run(at, kills)))

    def _prefer(self, lane: str | None, pick: int) -> None:
        if not pick:
            return
        ready = self.line.rows(
            f"select id from procrastinate_jobs where {_READY}"
            " and (cast(:lane as text) is null or queue_name = :lane) order by id",
            lane=lane,
        )
        if ready:
            chosen = ready[pick % len(ready)]["id"]
            self.line.change("update procrastinate_jobs set priority = 1 where id = :id", id=chosen)

    async def _do(self, lane: str | None, run: Run) -> Run | None:
        # A run that may not come to its end is a worker's of its own: its breath is what the reaper goes by.
        worker = self.alive if run.at is None else await self._app.job_manager.register_worker()
        run.job = await self._app.job_manager.fetch_job([lane] if lane else None, worker)
        if run.job is None:
            return None
        run.task = asyncio.create_task(self._carry_out(run, run.job))
        stopped = asyncio.create_task(run.stopped.wait())
        await asyncio.wait({run.task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        self.runs.append(run)
        return run

    async def _carry_out(self, run: Run, job: Job) -> None:
        _run.set((run, self._loop))
        context = JobContext(app=self._app, job=job, start_timestamp=time.time(), abort_reason=lambda: None)
        await self._engine._process_job(context)

    # Many

    def work(self) -> None:
        """Every job that is ready, one after the other, and those that these make, until none is."""
        while self.do():
            pass

    def wake(self, run: Run) -> None:
        """A stopped run goes on where it was, whatever has happened since."""
        run.woken.set()
        self._call(_end(run))

    def wake_all(self) -> None:
        for run in self.asleep():
            self.wake(run)

    def asleep(self) -> list[Run]:
        return [run for run in self.runs if run.under_way]


async def _end(run: Run) -> None:
    if run.task:
        await asyncio.wait({run.task})
