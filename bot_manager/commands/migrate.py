"""`migrate`: the newest schema, and the application's rights in it."""

from __future__ import annotations

from bot_manager.ops import postgres, schema
from bot_manager.settings import Settings


def main(settings: Settings, words: list[str]) -> int:
    with postgres.running(settings) as urls:
        schema.migrate(urls.owner, schema.role_of(urls.app))
    return 0
