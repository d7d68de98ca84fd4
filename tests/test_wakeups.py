"""Waking the worker: no announced job waits for the next poll."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bot_manager.jobs.queue import _Manager
from bot_manager.jobs.turns import Turns

NOBODY = {"id": None}
JOB = {"id": 7, "status": "doing", "lock": None, "queueing_lock": None, "task_name": "deliver", "args": {},
       "priority": 0, "scheduled_at": None, "queue_name": "money", "attempts": 0, "worker_id": 1, "share": "a"}  # fmt: skip


class Database:
    """Announces a job during the first look, too late for that look to find it."""

    def __init__(self, *found: dict[str, Any], announces: bool) -> None:
        self.found = list(found)
        self.announces = announces

    async def listen_notify(self, on_notification: Any, channels: Any) -> None:
        self.announce = on_notification

    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        if self.announces:
            self.announces = False
            await self.announce(channel="any", payload='{"type": "job_inserted", "job_id": 7}')
        return self.found.pop(0)


async def fetch(database: Database) -> int | None:
    async def heard(**_: Any) -> None:
        pass

    manager = _Manager(database, Turns(["money"], 16, time.monotonic))
    manager.known = {JOB["task_name"]}
    await manager.listen_for_jobs(on_notification=heard)
    job = await manager.fetch_job(None, worker_id=1)
    return job and job.id


def test_a_job_announced_during_a_look_is_looked_for_again() -> None:
    assert asyncio.run(fetch(Database(NOBODY, JOB, announces=True))) == 7


def test_one_look_is_enough_when_nothing_was_announced() -> None:
    assert asyncio.run(fetch(Database(NOBODY, announces=False))) is None


def test_a_job_that_is_found_is_taken_whatever_was_announced() -> None:
    assert asyncio.run(fetch(Database(JOB, announces=True))) == 7
