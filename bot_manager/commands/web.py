"""`web`: the HTTP door, served by gunicorn."""

from __future__ import annotations

import os
import sys

from bot_manager.ops import postgres
from bot_manager.settings import Settings

WORDS = ["-m", "gunicorn", "-c", "python:web.gunicorn_conf", "wsgi:asgi"]


def main(settings: Settings, words: list[str]) -> int:
    with postgres.running(settings) as urls:
        environment = {**os.environ, "DATABASE_URL": urls.app, "DATABASE_OWNER_URL": urls.owner}
        if settings.database_url:
            os.execve(sys.executable, [sys.executable, *WORDS], environment)  # noqa: S606
        return os.spawnve(os.P_WAIT, sys.executable, [sys.executable, *WORDS], environment)  # noqa: S606
