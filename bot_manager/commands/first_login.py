"""`first_login`: makes the operator of a new installation and prints the login, once. `run` calls it.

With --again it prints another password, as long as nobody has logged in: the first may have been lost on its way.
"""

from __future__ import annotations

import sys

from bot_manager import sellers
from bot_manager.commands.core import opened
from bot_manager.settings import Settings
from models import db

EMAIL = "operador@example.com"
AGAIN = "--again"


def main(settings: Settings, words: list[str]) -> int:
    if set(words) - {AGAIN}:
        sys.stderr.write(f"usage: python -m bot_manager first_login [{AGAIN}]\n")
        return 2
    with opened(settings):
        password, untouched = sellers.first_operator(EMAIL), sellers.nobody_came(EMAIL)
        if untouched and AGAIN in words:
            password = sellers.another_password(EMAIL)
        db.session.commit()
    return _tell(password, untouched, AGAIN in words)


def _tell(password: str | None, untouched: bool, again: bool) -> int:
    if password:
        print(f"First login: {EMAIL} · {password} (shown this once)")  # noqa: T201
    elif untouched:
        print(f"Nobody has logged in yet. Another first login: python -m bot_manager first_login {AGAIN}")  # noqa: T201
    elif again:
        sys.stderr.write(f"bot_manager: {EMAIL} has logged in already; a new password is made in the panel\n")
        return 1
    return 0
