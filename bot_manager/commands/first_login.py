"""`first_login`: makes the operator of a new installation and prints the login, once. `run` calls it."""

from __future__ import annotations

from bot_manager import sellers
from bot_manager.commands.core import opened
from bot_manager.settings import Settings
from models import db

EMAIL = "operador@example.com"


def main(settings: Settings, words: list[str]) -> int:
    with opened(settings):
        password = sellers.first_operator(EMAIL)
        db.session.commit()
    if password:
        print(f"First login: {EMAIL} · {password} (shown this once)")  # noqa: T201
    return 0
