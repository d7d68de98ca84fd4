"""`run`: everything, on one machine."""

from __future__ import annotations

import os
import subprocess
import sys

from bot_manager.ops import processes
from bot_manager.ops.postgres import Urls
from bot_manager.settings import Settings


def main(settings: Settings, words: list[str]) -> int:
    return processes.run(settings, _first_login, migrate=_migrate)


def _migrate(urls: Urls) -> None:
    _command("migrate", urls)


def _first_login(urls: Urls) -> str:
    return _command("first_login", urls)


def _command(name: str, urls: Urls) -> str:
    """Runs a command of ours to its end: this process stays small, and lives as long as the product."""
    environment = {**os.environ, "DATABASE_URL": urls.app, "DATABASE_OWNER_URL": urls.owner}
    words = [sys.executable, "-m", "bot_manager", name]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise processes.CannotRun(f"`{name}` failed; what it said stands above")
    return done.stdout.strip()
