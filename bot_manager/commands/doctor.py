"""`doctor`: looks at what is there, so that it migrates nothing first."""

from __future__ import annotations

import sys
from dataclasses import replace

from bot_manager.app import create_core
from bot_manager.ops import postgres
from bot_manager.settings import Settings
from bot_manager.shop.commands import main_doctor


def main(settings: Settings, words: list[str]) -> int:
    if set(words) - {"--offline"}:
        sys.stderr.write("usage: python -m bot_manager doctor [--offline]\n")
        return 2
    with postgres.running(settings) as urls:
        ready = replace(settings, database_url=urls.app, database_owner_url=urls.owner)
        with create_core(ready).app_context():
            return main_doctor(offline="--offline" in words)
