"""How a command gets at the core: the database running and migrated, an app context around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bot_manager.ops import postgres, schema
from bot_manager.settings import Settings
from web import create_app


@contextmanager
def opened(settings: Settings) -> Iterator[Settings]:
    """The settings with the address of the database that is running now."""
    with postgres.running(settings) as urls:
        schema.migrate(urls.owner, schema.role_of(urls.app))
        ready = replace(settings, database_url=urls.app, database_owner_url=urls.owner)
        with create_app(ready).app_context():
            yield ready
