"""The port over Procrastinate: enqueue inside our transaction, set timers, run a worker, free what the dead held.

The only module that knows the engine. What it repairs there was measured: timers are rows of ours (a million future
jobs make each fetch take 0.4 s), a locked job that ends wakes the next by a trigger of the first migration, a race for
a lock must not end the worker, and the jobs of a worker that stopped breathing go back in one statement.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import procrastinate
import psycopg
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job as EngineJob
from procrastinate.jobs import Notification
from procrastinate.manager import JobManager, NotificationCallback
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import text
from sqlalchemy.engine import Connection

from bot_manager import log
from bot_manager.database import patience
from bot_manager.database.liveness import hung_up
from bot_manager.jobs.names import LANES, Lane, Name
from bot_manager.jobs.turns import Turns
from models import db

logger = logging.getLogger(__name__)

MOST_ATTEMPTS = 10
BREATH_S = 1.0
DEAD_AFTER_S = 5.0
KEEP_FAILED_DAYS = 90
STOP_S = 23.0  # less than the supervisor's patience
POLL_S = 1.0
ALONE = "alone"  # the lane of jobs that were under way at more than one end of their process
AGAIN_S = 0.5
STRANGE_S = 15.0  # before a job of an unknown name is looked at again, by whoever
MOST_SWEPT = 5000  # 0.1 ms each; whoever has more due at once does not keep the others waiting for long

_ENQUEUE = text(
    "insert into procrastinate_jobs (queue_name, task_name, lock, args, share)"
    " select j.lane, j.name, j.lock, j.args, j.share"
    " from jsonb_to_recordset(cast(:jobs as jsonb)) as j(lane text, name text, lock text, args jsonb, share text)"
)
_SET_TIMERS = text(
    "insert into timer (key, kind, seller_id, args, lock, share, trace_id, due_at)"
    " values (:key, :kind, :seller_id, cast(:args as jsonb), :lock, :share, :trace_id,"
    " now() + make_interval(secs => :seconds))"
    " on conflict (key) do update set kind = excluded.kind, args = excluded.args, lock = excluded.lock,"
    " share = excluded.share, trace_id = excluded.trace_id, due_at = excluded.due_at"
)
_CANCEL_TIMER = text("delete from timer where key = :key")
_SWEEP = text(
    "with due as (delete from timer where key in"
    "  (select key from timer where due_at <= now() and jsonb_exists(cast(:lanes as jsonb), kind)"
    "   order by due_at limit :most for update skip locked) returning *)"
    " insert into procrastinate_jobs (queue_name, task_name, lock, share, args)"
    " select cast(:lanes as jsonb) ->> kind, kind, lock, share,"
    "  args || jsonb_build_object('seller', seller_id, 'trace', trace_id) from due"
)
_FETCH = (
    "select id, status, task_name, priority, lock, queueing_lock, args, scheduled_at, queue_name, attempts, worker_id,"
    " share from fetch_in_turn(%(lanes)s::text[], %(served)s::text[], %(passed)s::text[], %(worker)s)"
)
_PUT_BACK = (
    "update procrastinate_jobs set status = 'todo', worker_id = null,"
    " scheduled_at = now() + make_interval(secs => %(pause)s) where id = %(job_id)s and worker_id = %(worker)s"
)
_FREE_THE_DEAD = text(
    "with dead as (delete from procrastinate_workers"
    "  where last_heartbeat < now() - make_interval(secs => :limit) returning id)"
    " update procrastinate_jobs set attempts = attempts + 1, worker_id = null,"
    "  queue_name = case when attempts > 0 then :alone else queue_name end,"
    "  scheduled_at = case when attempts > 0 then now() + make_interval(secs => least(60, 2 ^ attempts)) end,"
    "  status = (case when attempts >= :most then 'failed' else 'todo' end)::procrastinate_job_status"
    " where status = 'doing' and (worker_id is null or worker_id in (select id from dead)) returning id"
)
_SUSPECTS = text(
    "select exists (select 1 from procrastinate_jobs where queue_name = :alone and status = 'todo'"
    " and coalesce(scheduled_at, now()) <= now())"
)
_FREE_ALL = text(
    "update procrastinate_jobs set status = 'todo', worker_id = null, scheduled_at = null where status = 'doing'"
)
_CLEAN = text(
    "delete from procrastinate_jobs where id in (select id from procrastinate_jobs where"
    " status in ('succeeded', 'cancelled', 'aborted') order by id limit :batch)"
)
_CLEAN_FAILED = text(
    "delete from procrastinate_jobs where id in (select j.id from procrastinate_jobs j where j.status = 'failed'"
    " and not exists (select 1 from procrastinate_events e where e.job_id = j.id"
    "  and e.at > now() - make_interval(days => :days)) order by j.id limit :batch)"
)
_DEAD_LETTERS = text(
    "select j.id, j.task_name as name, j.args, max(e.at) as at from procrastinate_jobs j"
    " join procrastinate_events e on e.job_id = j.id"
    " where j.status = 'failed' and j.args ->> 'seller' = :seller group by j.id order by j.id desc limit :limit"
)
_NOTE_ERROR = (
    "insert into job_error (job_id, error) values (%(job_id)s, %(error)s)"
    " on conflict (job_id) do update set error = excluded.error"
)
_CLEAN_ERRORS = text(
    "delete from job_error x where not exists (select from procrastinate_jobs j where j.id = x.job_id)"
)
_LAG = text(
    "select coalesce(extract(epoch from clock_timestamp() - min(at)), 0)::float from (select e.at"
    " from procrastinate_jobs j join procrastinate_events e on e.job_id = j.id and e.type = 'deferred'"
    " where j.status = 'todo' and j.attempts = 0 and j.scheduled_at is null order by j.id limit 50) waiting"
)
_ALIVE = text(
    "select exists (select 1 from procrastinate_workers where last_heartbeat > now() - make_interval(secs => :limit))"
)


@dataclass(frozen=True, slots=True)
class Job:
    """A call to come. lock: jobs with the same one run one after the other (a hint, never a fence).

    share: whose backlog it is part of; the shares of a lane take turns. The seller's, unless told otherwise.
    """

    name: Name
    seller_id: int
    trace_id: str
    args: Mapping[str, Any] = field(default_factory=dict)
    lock: str | None = None
    share: str = ""

    def row(self) -> dict[str, Any]:
        args = {**self.args, "seller": self.seller_id, "trace": self.trace_id}
        share = self.share or f"seller:{self.seller_id}"
        return {"lane": LANES[self.name], "name": self.name, "lock": self.lock, "share": share, "args": args}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that failed for good: `id`, its name and arguments, and when it ended."""

    id: int
    name: str
    args: dict[str, Any]
    at: datetime


def enqueue(*jobs: Job) -> None:
    """Writes the jobs in the current transaction: they run if it commits, and not at all if it does not."""
    db.session.execute(_ENQUEUE, {"jobs": json.dumps([job.row() for job in jobs])})


def set_timer(key: str, job: Job, seconds: float) -> None:
    """The job runs in so many seconds, unless the timer with this key is set again or cancelled."""
    values = {"key": key, "kind": job.name, "seller_id": job.seller_id, "args": json.dumps(dict(job.args))}
    values |= {"lock": job.lock, "share": job.row()["share"], "trace_id": job.trace_id}
    db.session.execute(_SET_TIMERS, {**values, "seconds": seconds})


def cancel_timer(key: str) -> None:
    db.session.execute(_CANCEL_TIMER, {"key": key})


def sweep_timers(connection: Connection) -> None:
    """Turns due timers into jobs. Safe to run twice, and in several processes at once.

    Those of a name that is not known here are a newer version's, and left to it.
    """
    connection.execute(_SWEEP, {"lanes": json.dumps(LANES), "most": MOST_SWEPT})


def free_the_dead(connection: Connection) -> int:
    """Puts back the jobs of workers that stopped breathing; those that killed too many workers become dead letters.

    Who was there when a worker died may have killed it. A job to which it happens again, or that had failed before, is
    put where it runs alone, in a process of its own: what kills there kills nobody else and keeps nobody waiting.
    """
    bounds = {"limit": DEAD_AFTER_S, "most": MOST_ATTEMPTS, "alone": ALONE}
    return len(connection.execute(_FREE_THE_DEAD, bounds).all())


def suspects_wait() -> bool:
    """Whether a job is due that has to run alone."""
    return bool(db.session.execute(_SUSPECTS, {"alone": ALONE}).scalar_one())


def start_anew(connection: Connection) -> None:
    """For a database that was put in another's place: the workers in it are another time's, and so are their claims."""
    connection.execute(text("delete from procrastinate_workers"))
    connection.execute(_FREE_ALL)


def clean_up(connection: Connection, batch: int = 5000) -> None:
    """Deletes one batch of ended jobs, and failed ones after 90 days."""
    connection.execute(_CLEAN, {"batch": batch})
    connection.execute(_CLEAN_FAILED, {"batch": batch, "days": KEEP_FAILED_DAYS})
    connection.execute(_CLEAN_ERRORS)


def dead_letters(seller_id: int, limit: int = 100) -> list[DeadLetter]:
    rows = db.session.execute(_DEAD_LETTERS, {"seller": str(seller_id), "limit": limit})
    return [DeadLetter(row.id, row.name, row.args, row.at) for row in rows]


def lag_seconds() -> float:
    """How long the oldest job that could run has waited."""
    return float(db.session.execute(_LAG).scalar_one())


def a_worker_breathes() -> bool:
    return bool(db.session.execute(_ALIVE, {"limit": DEAD_AFTER_S * 2}).scalar_one())


# Why each job of this process that is about to fail for good does so, from the decision to its being written down.
_failing: dict[int | None, str] = {}


class _Patience(procrastinate.BaseRetryStrategy):
    """1, 2, 4 … 60 s with jitter, or the error's own `wait_seconds`; one that is permanent is not tried again."""

    def get_retry_decision(self, *, exception: BaseException, job: EngineJob) -> procrastinate.RetryDecision | None:
        if getattr(exception, "permanent", False) or job.attempts + 1 >= MOST_ATTEMPTS:
            _failing[job.id] = log.told(exception)[:300].replace("\0", "")
            return None
        usual = min(60.0, 2.0**job.attempts) * random.uniform(0.75, 1.25)
        seconds = float(getattr(exception, "wait_seconds", usual))
        return procrastinate.RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=seconds))


class _Manager(JobManager):
    """Serves shares in turn, and outlives a restart of the database.

    The engine's own serves in the order of arrival, whoever's, and would go on after a restart deaf, without breath,
    its jobs held for ever.
    """

    known: Collection[str] = ()  # the names of the jobs that are run here
    _announced = 0
    full = False  # whether the last look that found nothing passed over shares that hold enough slots
    _on_notification: NotificationCallback | None = None

    def __init__(self, connector: Any, turns: Turns) -> None:
        super().__init__(connector)
        self.turns = turns

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        async def note(*, channel: str, notification: Notification) -> None:
            self._announced += 1
            await on_notification(channel=channel, notification=notification)

        self._on_notification = note
        await _stubbornly(partial(super().listen_for_jobs, on_notification=note, queues=queues))

    async def look_again(self) -> None:
        """Has the worker look for a job, as if one was announced."""
        if self._on_notification:
            await self._on_notification(channel="", notification={"type": "job_inserted", "job_id": 0})

    async def register_worker(self) -> int:
        self.turns.begin_anew()
        return await super().register_worker()

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> EngineJob | None:
        """Looks again when a job was announced during the look: the worker forgets that, and would sleep on it."""
        while True:
            announced = self._announced
            job = await self._fetch_job(worker_id)
            if job or announced == self._announced:
                return job

    async def _fetch_job(self, worker_id: int) -> EngineJob | None:
        """Of those that are known here: another is a newer version's, which may be on its way, and is left to it."""
        while (job := await self._fetch_any(worker_id)) and job.task_name not in self.known:
            logger.warning("a job that is not known here waits for a newer worker", extra={"job": job.task_name})
            values = {"job_id": job.id, "worker": worker_id, "pause": STRANGE_S}
            await self.connector.execute_query_async(_PUT_BACK, **values)
            self.turns.end(job.id or 0)
        return job

    async def _fetch_any(self, worker_id: int) -> EngineJob | None:
        lanes, served = zip(*self.turns.lanes(), strict=True)
        full = self.turns.full()
        passed = [f"{lane} {share}" for lane, share in (*full, *self.turns.resting())]
        values = {"lanes": list(lanes), "served": list(served), "passed": passed, "worker": worker_id}
        try:
            row = await self.connector.execute_query_one_async(_FETCH, **values)
        except UniqueViolation:
            return None  # lost a race for a lock; the poll or the next notice tries again
        if row["id"] is None:
            self.full = bool(full)
            return None
        self.turns.begin(row["id"], row["queue_name"], row["share"])
        return EngineJob.from_row(row)

    async def update_heartbeat(self, *args: Any, **options: Any) -> None:
        await _stubbornly(partial(super().update_heartbeat, *args, **options))

    async def finish_job(self, job: EngineJob, *args: Any, **options: Any) -> None:
        if (error := _failing.pop(job.id, None)) and job.id:
            await _stubbornly(partial(self.connector.execute_query_async, _NOTE_ERROR, job_id=job.id, error=error))
        await _stubbornly(partial(super().finish_job, job, *args, **options))
        await self._ended(job)

    async def retry_job(self, job: EngineJob, *args: Any, **options: Any) -> None:
        await _stubbornly(partial(super().retry_job, job, *args, **options))
        await self._ended(job)

    async def _ended(self, job: EngineJob) -> None:
        self.turns.end(job.id or 0)
        self._announced += 1
        if self.full:  # what was passed over for this job's sake is announced by nothing else
            await self.look_again()


async def _stubbornly(call: Callable[[], Awaitable[None]]) -> None:
    """Until the database has taken it. What it refuses (the end of a job that is another's by now) is let be."""
    while True:
        try:
            return await call()
        except ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.OperationalError | psycopg.InterfaceError):
                logger.warning("the job engine was refused", extra={"cause": str(error.__cause__)})
                return None
            await asyncio.sleep(AGAIN_S)


async def _autocommit(connection: AsyncConnection) -> None:
    """All that the engine does is one statement at a time: `begin` and `commit` would be two round trips more."""
    await connection.set_autocommit(True)


async def _look(connection: AsyncConnection) -> None:
    """Raises what makes the pool, which keeps whatever is not closed, open another connection."""
    if hung_up(connection):
        await connection.close()
        raise psycopg.OperationalError("the server has hung up")


def _pool(**options: Any) -> AsyncConnectionPool:
    """The engine would have the server asked whether it is there before each statement."""
    return AsyncConnectionPool(**{**options, "check": _look})


Run = Callable[..., Awaitable[None]]
_worker: ContextVar[Worker | None] = ContextVar("worker", default=None)


def rest(share: str, name: Name, seconds: float) -> None:
    """Has the turns of this share, in the lane of such jobs, passed over by the worker that runs the calling job."""
    if worker := _worker.get():
        worker.let_rest(LANES[name], share, seconds)


def crowded() -> bool:
    """Whether the running job should not keep its slot while it only waits: half of the worker's are taken."""
    worker = _worker.get()
    return worker is not None and worker.turns.crowded()


class Worker:
    """Runs jobs until told to stop. runs: name → coroutine function taking `seller` and the job's arguments."""

    def __init__(
        self, conninfo: str, runs: Mapping[Name, Run], lanes: Iterable[str] = (), concurrency: int = 16
    ) -> None:
        self._lanes = list(lanes) or list(Lane)
        self._concurrency = concurrency
        connector = procrastinate.PsycopgConnector(
            pool_factory=_pool, conninfo=patience.conninfo(conninfo), min_size=1, max_size=4, configure=_autocommit
        )
        self._app = procrastinate.App(connector=connector)
        self.turns = Turns(self._lanes or Lane, concurrency, time.monotonic)
        self._manager = _Manager(connector, self.turns)
        self._app.job_manager = self._manager
        for name, run in runs.items():
            task = self._app.task(name=name, queue=LANES[name], retry=_Patience())
            task(self._job(name, run))
        self._manager.known = frozenset(runs)

    async def run(self, stopping: asyncio.Event) -> None:
        async with self._app.open_async():
            while not stopping.is_set():
                await self._run_once(stopping)

    async def _run_once(self, stopping: asyncio.Event) -> None:
        worker = asyncio.create_task(self._work())
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({worker, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        worker.cancel()
        # Without its database the engine would wait for half a minute, and again, to write down how its jobs ended.
        _, late = await asyncio.wait({worker}, timeout=STOP_S)
        if late:
            logger.warning("stopped with jobs under way; another worker will take them up")
            return
        try:
            worker.result()
        except asyncio.CancelledError:
            pass
        except (ConnectorException, OSError) as error:
            logger.warning("the job engine lost its database, starting again", extra={"cause": log.told(error)})
        if not stopping.is_set():
            await asyncio.sleep(AGAIN_S)  # also when it ended by itself, as it does when its listener died

    async def drain(self) -> None:
        """Runs what is ready now, not what that makes ready, and returns; for tests and one-off commands."""
        async with self._app.open_async():
            await self._work(wait=False, listen_notify=False)
            while self._manager.full:
                await self._work(wait=False, listen_notify=False)

    async def _work(self, **changes: Any) -> None:
        options: dict[str, Any] = {
            "queues": self._lanes,
            "concurrency": self._concurrency,
            "fetch_job_polling_interval": POLL_S,
            "abort_job_polling_interval": 60.0,
            "shutdown_graceful_timeout": 20.0,
            "install_signal_handlers": False,
            "update_heartbeat_interval": BREATH_S,
            "stalled_worker_timeout": 3600.0,  # pruning is free_the_dead's, which also frees their jobs
            "delete_jobs": "never",
        }
        await self._app.run_worker_async(**{**options, **changes})

    def _job(self, name: Name, run: Run) -> Callable[..., Awaitable[None]]:
        async def task(seller: int, trace: str, **args: Any) -> None:
            _worker.set(self)
            with log.bound(trace, seller):
                try:
                    await run(seller=seller, **args)
                except Exception:
                    logger.exception("job failed", extra={"job": name, "ref": args})
                    raise

        return task

    def let_rest(self, lane: Lane, share: str, seconds: float) -> None:
        """Passes over the turns of the share for so long."""
        self.turns.rest(lane, share, seconds)
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, lambda: loop.create_task(self._manager.look_again()))
