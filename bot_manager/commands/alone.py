"""`alone`: runs the jobs that were there when workers died, one after the other. A worker calls it when it must."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from bot_manager.jobs.worker import work_alone
from bot_manager.ops import postgres
from bot_manager.settings import Settings


def main(settings: Settings, words: list[str]) -> int:
    with postgres.running(settings) as urls:
        asyncio.run(work_alone(replace(settings, database_url=urls.app)))
    return 0
