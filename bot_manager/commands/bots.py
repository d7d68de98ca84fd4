"""`bots`: polling alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from bot_manager.jobs.worker import poll
from bot_manager.ops import postgres
from bot_manager.settings import Settings


def main(settings: Settings, words: list[str]) -> int:
    with postgres.running(settings) as urls:
        asyncio.run(poll(replace(settings, database_url=urls.app)))
    return 0
