"""Passwords: hashed by few at a time, and what a new one ends.

A hash costs 40 ms of a processor on purpose, and web threads are few: those that hash wait in one line, short enough
that most threads are always left to the webhooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from flask_security import hash_password, verify_password
from flask_security.proxies import _datastore
from werkzeug.exceptions import TooManyRequests

from bot_manager.security import logins
from models import User

IN_LINE = 3  # of a process's eight threads, one hashing and two waiting

_line = BoundedSemaphore(IN_LINE)
_turn = Lock()


@contextmanager
def in_turn() -> Iterator[None]:
    """Raises TooManyRequests when the line is full."""
    if not _line.acquire(blocking=False):
        raise TooManyRequests(retry_after=2)
    try:
        with _turn:
            yield
    finally:
        _line.release()


def fits(user: User, password: str) -> bool:
    with in_turn():
        return bool(user.password and verify_password(password, user.password))


def change(user: User, password: str) -> None:
    """Ends every login of the user, too; the caller commits, and logs in anew whoever asked for it."""
    with in_turn():
        user.password = hash_password(password)
    _datastore.set_uniquifier(user)
    logins.end_all(user.id, logins.Why.CHANGED)
