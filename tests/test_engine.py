"""What `bot_manager.jobs.queue` promises of the job engine, on the real queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Barrier, Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from bot_manager import sellers
from bot_manager.jobs import queue
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, Run, Worker, enqueue
from bot_manager.payments.charges import Busy
from bot_manager.settings import Settings
from models import db
from tests.until import until

PATIENCE_S = 20.0
TRACE = "a trace"


class Passing(Exception):
    permanent = False


class ForGood(Exception):
    permanent = True


@pytest.fixture
def seller(app: Flask) -> int:
    """A seller, whom this context acts for."""
    made = sellers.create("Loja", "dona@example.com")
    db.session.commit()
    return made.seller_id


@pytest.fixture
def put(app: Flask, seller: int) -> Callable[..., None]:
    """Enqueues a job and commits."""

    def put(lock: str | None = None, name: Name = Name.CHARGE, **args: Any) -> None:
        enqueue(Job(name, seller, TRACE, args, lock))
        db.session.commit()

    return put


def jobs(owner: Engine, columns: str = "status, attempts") -> list[tuple[Any, ...]]:
    return rows(owner, f"select {columns} from procrastinate_jobs order by id")


def rows(owner: Engine, query: str) -> list[tuple[Any, ...]]:
    with owner.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def change(owner: Engine, statement: str) -> None:
    with owner.begin() as connection:
        connection.exec_driver_sql(statement)


@contextmanager
def working(settings: Settings, run: Run) -> Iterator[None]:
    """A worker beside the test; every job is `run`."""
    loops: list[asyncio.AbstractEventLoop] = []
    stopping = asyncio.Event()

    async def work() -> None:
        loops.append(asyncio.get_running_loop())
        await Worker(settings.database_url or "", dict.fromkeys(Name, run)).run(stopping)

    thread = Thread(target=lambda: asyncio.run(work()))
    thread.start()
    until(lambda: loops, PATIENCE_S)
    try:
        yield
    finally:
        loops[0].call_soon_threadsafe(stopping.set)
        thread.join()


def drain(settings: Settings, run: Run) -> None:
    """Each ready job is `run` once."""
    asyncio.run(Worker(settings.database_url or "", dict.fromkeys(Name, run)).drain())


# Jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_of_a_rolled_back_transaction_does_not_exist(app: Flask, seller: int, owner: Engine) -> None:
    enqueue(Job(Name.CHARGE, seller, TRACE, {"payment": 1}))
    db.session.rollback()
    assert jobs(owner) == []


def test_a_job_carries_its_seller_its_trace_and_its_arguments(
    settings: Settings, put: Callable[..., None], seller: int
) -> None:
    seen = []

    async def run(**args: Any) -> None:
        seen.append(args)

    put(payment=7)
    drain(settings, run)
    assert seen == [{"seller": seller, "payment": 7}]


def test_jobs_that_only_a_newer_worker_knows_wait_for_it_and_keep_no_others_waiting(
    settings: Settings, put: Callable[..., None], owner: Engine
) -> None:
    ran: list[int] = []

    async def run(number: int, **_: Any) -> None:
        ran.append(number)

    for number in range(3):
        put(f"lock {number}", name=Name.CONFIRM, number=number)  # as it were, a name that came with a release
    put("lock 0", number=3)  # has to come after another
    put(number=4)
    old = Worker(settings.database_url or "", {Name.CHARGE: run})
    asyncio.run(old.drain())

    assert ran == [4]
    [strange] = rows(owner, "select status::text, attempts, worker_id from procrastinate_jobs where lock = 'lock 1'")
    assert strange == ("todo", 0, None)
    assert {status for (status,) in jobs(owner, "status")} == {"todo", "succeeded"}

    change(owner, "update procrastinate_jobs set scheduled_at = now() where status = 'todo'")
    drain(settings, run)
    drain(settings, run)

    assert (ran[0], sorted(ran), ran.index(0) < ran.index(3)) == (4, [0, 1, 2, 3, 4], True)


def test_jobs_of_one_lock_follow_each_other_at_once_and_in_order(settings: Settings, put: Callable[..., None]) -> None:
    began: list[tuple[int, float]] = []

    async def run(number: int, **_: Any) -> None:
        began.append((number, time.monotonic()))

    for number in range(6):
        put("chat:1", number=number)
    with working(settings, run):
        until(lambda: len(began) == 6, PATIENCE_S)
    assert [number for number, _ in began] == list(range(6))
    # Each would wait for the next poll, a second later, if the end of the one before did not wake the worker.
    assert began[-1][1] - began[0][1] < 3


def test_a_waiting_retry_holds_its_own_lock_and_no_other(
    settings: Settings, put: Callable[..., None], owner: Engine
) -> None:
    ran = []

    async def run(number: int, **_: Any) -> None:
        ran.append(number)
        if number == 1:
            raise Passing

    put("chat:1", number=1)
    put("chat:1", number=2)
    put("chat:2", number=3)
    drain(settings, run)
    assert sorted(ran) == [1, 3]
    assert jobs(owner) == [("todo", 1), ("todo", 0), ("succeeded", 1)]


def test_a_lost_race_for_a_lock_does_not_end_the_worker(
    settings: Settings, put: Callable[..., None], owner: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    ran = []

    async def run(number: int, **_: Any) -> None:
        ran.append(number)

    with _races_lost() as lost, owner.connect() as writer, owner.connect() as rival:
        # Job 1 is written first and committed last. Meanwhile another worker takes job 2, whose turn it seems to be.
        writer.exec_driver_sql(FIRST_JOB)
        put("chat:1", number=2)
        rival.exec_driver_sql("update procrastinate_jobs set status = 'doing'")
        writer.commit()
        with working(settings, run):
            until(lambda: _somebody_waits(owner), PATIENCE_S)  # our worker, for the lock's unique index
            rival.commit()
            until(lambda: lost, PATIENCE_S)
            change(owner, "update procrastinate_jobs set status = 'succeeded' where status = 'doing'")
            until(lambda: ran, PATIENCE_S)
    assert (ran, len(lost)) == ([1], 1)
    assert "starting again" not in caplog.text


FIRST_JOB = """
    insert into procrastinate_jobs (queue_name, task_name, lock, args)
    values ('money', 'charge', 'chat:1', '{"seller": 1, "trace": "", "number": 1}')"""


def _somebody_waits(owner: Engine) -> bool:
    return bool(rows(owner, "select 1 from pg_locks where not granted"))


@contextmanager
def _races_lost() -> Iterator[list[Exception]]:
    """What the database raised at a fetch, and the worker made nothing of."""
    ask, lost = queue.procrastinate.PsycopgConnector.execute_query_one_async, []

    async def watched(*args: Any, **options: Any) -> Any:
        try:
            return await ask(*args, **options)
        except queue.UniqueViolation as error:
            lost.append(error)
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue.procrastinate.PsycopgConnector, "execute_query_one_async", watched)
        yield lost


def test_a_worker_that_is_told_to_stop_does_so_whatever_its_jobs_are_at(
    settings: Settings, put: Callable[..., None], owner: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "STOP_S", 0.2)
    began = []

    async def run(**_: Any) -> None:
        began.append(time.monotonic())
        await asyncio.Event().wait()

    put()
    with working(settings, run):
        until(lambda: began, PATIENCE_S)
    assert time.monotonic() - began[0] < 10
    assert jobs(owner, "status") in ([("doing",)], [("todo",)])


# Without the database --------------------------------------------------------------------------------------------


def test_a_worker_hears_breathes_and_ends_its_jobs_after_the_database_was_away(
    settings: Settings,
    put: Callable[..., None],
    owner: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(queue, "POLL_S", 3600.0)  # it has to hear of jobs
    ran, away = [], Event()

    async def run(number: int, **_: Any) -> None:
        ran.append(number)
        await asyncio.to_thread(away.wait, PATIENCE_S)

    put(number=1)
    with working(settings, run):
        until(lambda: ran == [1] and rows(owner, LISTENING), PATIENCE_S)
        itself = rows(owner, "select id from procrastinate_workers")
        with _shut_out(owner):
            away.set()
            until(lambda: "error connecting" in caplog.text, PATIENCE_S)
        until(lambda: jobs(owner) == [("succeeded", 1)], PATIENCE_S)
        until(lambda: rows(owner, LISTENING) and rows(owner, BREATHING), PATIENCE_S)
        put(number=2)
        until(lambda: ran == [1, 2], PATIENCE_S)
        assert rows(owner, "select id from procrastinate_workers") == itself


LISTENING = "select 1 from pg_stat_activity where datname = current_database() and query ilike 'listen%'"
BREATHING = "select 1 from procrastinate_workers where last_heartbeat > now() - interval '2 s'"


@contextmanager
def _shut_out(owner: Engine) -> Iterator[None]:
    """The application's role loses its connections and gets no new ones."""
    name = owner.url.database
    change(owner, f"alter database {name} connection limit 0")
    change(
        owner,
        f"select pg_terminate_backend(pid) from pg_stat_activity where usename = 'bot_manager' and datname = '{name}'",
    )
    try:
        yield
    finally:
        change(owner, f"alter database {name} connection limit -1")


# Failing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "status"), [(Passing, "todo"), (ForGood, "failed"), (KeyError, "todo")])
def test_only_what_may_pass_is_tried_again(
    settings: Settings, put: Callable[..., None], owner: Engine, error: type[Exception], status: str
) -> None:
    async def run(**_: Any) -> None:
        raise error("no")

    put()
    drain(settings, run)
    assert jobs(owner) == [(status, 1)]


def test_what_never_passes_becomes_a_dead_letter_with_its_seller_and_trace(
    settings: Settings, put: Callable[..., None], owner: Engine, seller: int
) -> None:
    tries = []

    async def run(**_: Any) -> None:
        tries.append(1)
        raise Passing

    put(payment=7)
    for _ in range(queue.MOST_ATTEMPTS + 2):
        change(owner, "update procrastinate_jobs set scheduled_at = now() where status = 'todo'")
        drain(settings, run)
    assert len(tries) == queue.MOST_ATTEMPTS
    [letter] = queue.dead_letters(seller)
    assert (letter.name, letter.args) == ("charge", {"payment": 7, "seller": seller, "trace": TRACE})
    assert queue.dead_letters(seller + 1) == []


def test_retries_wait_longer_and_longer_up_to_a_minute() -> None:
    waits = [wait(Passing(), attempts) for attempts in range(queue.MOST_ATTEMPTS - 1)]
    assert 0.7 < waits[0] < 1.3
    assert waits[3] > waits[0]
    assert max(waits) < 76


def test_an_error_may_say_when_to_try_again() -> None:
    assert 14 < wait(Busy("taken", wait_seconds=15), attempts=1) < 15.1


def wait(error: Exception, attempts: int) -> float:
    """Seconds until the next try of a job that has been tried so often."""
    tried = SimpleNamespace(attempts=attempts)
    decision = queue._Patience().get_retry_decision(exception=error, job=tried)  # type: ignore[arg-type]
    assert decision
    assert decision.retry_at
    return decision.retry_at.timestamp() - time.time()


# The dead ---------------------------------------------------------------------------------------------------------

HELD = """
    insert into procrastinate_workers (last_heartbeat) values (now() - interval '{age} s');
    update procrastinate_jobs set status = 'doing', attempts = {attempts},
     worker_id = (select max(id) from procrastinate_workers)"""


def free_the_dead(owner: Engine) -> int:
    with owner.begin() as connection:
        return queue.free_the_dead(connection)


def test_a_dead_workers_job_goes_back(put: Callable[..., None], owner: Engine) -> None:
    put("chat:1")
    change(owner, HELD.format(age=6, attempts=0))
    assert free_the_dead(owner) == 1
    assert jobs(owner, "status, attempts, worker_id") == [("todo", 1, None)]
    assert rows(owner, "select 1 from procrastinate_workers") == []
    assert free_the_dead(owner) == 0


def test_a_breathing_worker_keeps_its_job(put: Callable[..., None], owner: Engine) -> None:
    put()
    change(owner, HELD.format(age=1, attempts=0))
    assert free_the_dead(owner) == 0
    assert jobs(owner) == [("doing", 0)]


def test_a_job_that_kills_its_workers_becomes_a_dead_letter(
    put: Callable[..., None], owner: Engine, seller: int
) -> None:
    put()
    change(owner, HELD.format(age=6, attempts=queue.MOST_ATTEMPTS))
    free_the_dead(owner)
    assert [letter.name for letter in queue.dead_letters(seller)] == ["charge"]


def test_a_freed_job_runs_again(settings: Settings, put: Callable[..., None], owner: Engine) -> None:
    ran = []

    async def run(**_: Any) -> None:
        ran.append(1)

    put("chat:1")
    change(owner, HELD.format(age=6, attempts=0))
    free_the_dead(owner)
    drain(settings, run)
    assert (ran, jobs(owner, "status")) == ([1], [("succeeded",)])


def test_a_job_that_was_there_when_two_workers_died_runs_where_it_is_alone(
    settings: Settings, put: Callable[..., None], owner: Engine
) -> None:
    ran = []

    async def run(payment: int, **_: Any) -> None:
        ran.append(payment)

    put(payment=1)
    change(owner, HELD.format(age=6, attempts=1))
    free_the_dead(owner)
    put(payment=2)
    change(owner, "update procrastinate_jobs set scheduled_at = now() where scheduled_at is not null")
    assert queue.suspects_wait()
    drain(settings, run)
    assert ran == [2]  # no worker takes it beside others
    asyncio.run(Worker(settings.database_url or "", dict.fromkeys(Name, run), [queue.ALONE], 1).drain())
    assert ran == [2, 1]
    db.session.rollback()
    assert not queue.suspects_wait()


def test_a_suspect_waits_longer_each_time(put: Callable[..., None], owner: Engine) -> None:
    put()
    waits = []
    for attempts in (1, 3, 9):
        change(owner, HELD.format(age=6, attempts=attempts))
        free_the_dead(owner)
        waits += jobs(owner, "round(extract(epoch from scheduled_at - now()))")
    assert [round(float(wait), -1) for (wait,) in waits] == [0, 10, 60]


def test_a_job_that_fails_each_time_keeps_none_of_a_thousand_others_waiting(
    settings: Settings, put: Callable[..., None], owner: Engine
) -> None:
    async def run(payment: int, **_: Any) -> None:
        if payment == 1:
            raise Passing

    put(payment=1)
    change(
        owner,
        "insert into procrastinate_jobs (queue_name, task_name, args) select queue_name, task_name,"
        " args || jsonb_build_object('payment', n) from procrastinate_jobs, generate_series(2, 1001) n",
    )
    drain(settings, run)
    assert rows(owner, "select status::text, count(*) from procrastinate_jobs group by 1 order by 1") == [
        ("succeeded", 1000),
        ("todo", 1),
    ]


# Timers -----------------------------------------------------------------------------------------------------------


def timer(seller: int, number: int, seconds: float, lock: str | None = None) -> None:
    queue.set_timer("look:1", Job(Name.LOOK, seller, TRACE, {"payment": number}, lock), seconds)
    db.session.commit()


def test_a_due_timer_becomes_a_job_once_by_two_sweepers_at_once(app: Flask, seller: int, owner: Engine) -> None:
    timer(seller, 1, 0, lock="look")
    together = Barrier(2)

    def sweep() -> None:
        with owner.begin() as connection:
            together.wait(PATIENCE_S)
            queue.sweep_timers(connection)
            together.wait(PATIENCE_S)

    threads = [Thread(target=sweep) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    args = {"payment": 1, "seller": seller, "trace": TRACE}
    assert jobs(owner, "queue_name, task_name, lock, args") == [("money", "look", "look", args)]
    assert _timers(owner) == 0


def test_a_timer_that_only_a_newer_clock_knows_waits_for_it_and_stops_no_other(
    app: Flask, seller: int, owner: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.set_timer("old", Job(Name.CHARGE, seller, TRACE), -1)
    queue.set_timer("new", Job(Name.CONFIRM, seller, TRACE), -2)
    db.session.commit()
    with monkeypatch.context() as earlier, owner.begin() as connection:
        earlier.delitem(queue.LANES, Name.CONFIRM)
        queue.sweep_timers(connection)

    assert rows(owner, "select key from timer") == [("new",)]
    assert jobs(owner, "task_name") == [("charge",)]
    with owner.begin() as connection:
        queue.sweep_timers(connection)
    assert rows(owner, "select key from timer") == []


def test_a_timer_set_again_is_moved(app: Flask, seller: int, owner: Engine) -> None:
    timer(seller, 1, 0)
    timer(seller, 2, 3600)
    _sweep(owner)
    assert jobs(owner) == []
    timer(seller, 3, 0)
    _sweep(owner)
    assert [args["payment"] for (args,) in jobs(owner, "args")] == [3]


def test_a_cancelled_timer_does_nothing(app: Flask, seller: int, owner: Engine) -> None:
    timer(seller, 1, 0)
    queue.cancel_timer("look:1")
    db.session.commit()
    _sweep(owner)
    assert jobs(owner) == []


def test_a_timer_of_a_rolled_back_transaction_does_not_exist(app: Flask, seller: int, owner: Engine) -> None:
    queue.set_timer("look:1", Job(Name.LOOK, seller, TRACE), 0)
    db.session.rollback()
    assert _timers(owner) == 0


def _sweep(owner: Engine) -> None:
    with owner.begin() as connection:
        queue.sweep_timers(connection)


def _timers(owner: Engine) -> int:
    return len(rows(owner, "select 1 from timer"))


# Cleaning up ------------------------------------------------------------------------------------------------------


def test_ended_jobs_are_cleaned_up_in_batches_and_failed_ones_are_kept(put: Callable[..., None], owner: Engine) -> None:
    for _ in range(6):
        put()
    change(
        owner,
        "with numbered as (select id, row_number() over (order by id) as n from procrastinate_jobs)"
        " update procrastinate_jobs j set status = (array['succeeded', 'cancelled', 'aborted', 'failed', 'doing', 'todo'])"
        "[n]::procrastinate_job_status from numbered where numbered.id = j.id",
    )
    with owner.begin() as connection:
        queue.clean_up(connection, batch=2)
    assert [status for (status,) in jobs(owner, "status")] == ["aborted", "failed", "doing", "todo"]
    with owner.begin() as connection:
        queue.clean_up(connection, batch=2)
    assert [status for (status,) in jobs(owner, "status")] == ["failed", "doing", "todo"]


def test_failed_jobs_are_kept_for_ninety_days(put: Callable[..., None], owner: Engine) -> None:
    put()
    change(owner, "update procrastinate_jobs set status = 'failed'")
    change(owner, "update procrastinate_events set at = now() - interval '89 days'")
    with owner.begin() as connection:
        queue.clean_up(connection)
    assert jobs(owner, "status") == [("failed",)]
    change(owner, "update procrastinate_events set at = now() - interval '91 days'")
    with owner.begin() as connection:
        queue.clean_up(connection)
    assert jobs(owner) == []
