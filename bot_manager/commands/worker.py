"""`worker`: jobs, the clock and, with --bots, polling where there is no PUBLIC_URL."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace

from bot_manager.jobs.names import Lane
from bot_manager.jobs.worker import work
from bot_manager.ops import postgres
from bot_manager.settings import Settings


def main(settings: Settings, words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bot_manager worker")
    parser.add_argument("lanes", nargs="*", choices=[[], *Lane], help="only these lanes' jobs; none means all")
    parser.add_argument("--bots", action="store_true", help="poll bots too, where there is no PUBLIC_URL")
    chosen = parser.parse_args(words)
    with postgres.running(settings) as urls:
        owner = urls.owner if urls.owner != urls.app else None
        ready = replace(settings, database_url=urls.app, database_owner_url=owner)
        asyncio.run(work(ready, chosen.lanes, chosen.bots))
    return 0
