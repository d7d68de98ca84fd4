"""How often something that can be guessed may be tried: token buckets as rows, one for all processes.

Each try takes one from its bucket, in a transaction of its own, so that tries made at the same moment are all counted.
"""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.engine import Connection

from bot_manager.app import now, vault
from models import db


@dataclass(frozen=True, slots=True)
class Limit:
    """`size` tries at once, and another one every `seconds`."""

    name: str
    size: int
    seconds: float


class TooOften(Exception):
    """Nothing is left to try with; `wait_seconds` until there is."""

    permanent = False

    def __init__(self, limit: Limit, wait_seconds: int) -> None:
        super().__init__(f"{limit.name}: wait {wait_seconds} s")
        self.limit = limit
        self.wait_seconds = wait_seconds


# What is in the bucket by now: what was left, and what has come in since.
_TAKE = text(
    "insert into allowance (key, tries, at) values (:key, :size - 1, :now) on conflict (key) do update set at = :now,"
    " tries = least(:size, allowance.tries + extract(epoch from excluded.at - allowance.at) / :seconds) - 1"
    " where least(:size, allowance.tries + extract(epoch from excluded.at - allowance.at) / :seconds) >= 1"
    " returning tries"
)
_WAIT = text(
    "select :seconds * (1 - tries) - extract(epoch from cast(:now as timestamptz) - at) from allowance where key = :key"
)
_GIVE_BACK = text("update allowance set tries = tries + 1 where key = :key")
_FILL = text("delete from allowance where key = :key")
_DROP = text(
    "delete from allowance where key in"
    " (select key from allowance where at < now() - interval '2 days' order by at limit :batch)"
)


def take(limit: Limit, *who: str) -> None:
    """One try, counted whatever becomes of it; commits. Raises TooOften."""
    values = {"key": _key(limit, who), "size": limit.size, "seconds": limit.seconds, "now": now()}
    if db.session.execute(_TAKE, values).scalar_one_or_none() is None:
        wait = db.session.execute(_WAIT, values).scalar_one_or_none() or 0.0
        db.session.commit()
        raise TooOften(limit, max(1, math.ceil(wait)))
    db.session.commit()


def give_back(limit: Limit, *who: str) -> None:
    """The try was a good one."""
    db.session.execute(_GIVE_BACK, {"key": _key(limit, who)})


def fill(limit: Limit, *who: str) -> None:
    """All tries again."""
    db.session.execute(_FILL, {"key": _key(limit, who)})


def drop_full_allowances(connection: Connection, batch: int = 5000) -> None:
    """Deletes one batch of those that nobody took from for so long that they are full."""
    connection.execute(_DROP, {"batch": batch})


def _key(limit: Limit, who: tuple[str, ...]) -> str:
    # Keyed: a plain hash of an e-mail is as good as the e-mail.
    return hmac.digest(vault().derived("limits"), "\0".join((limit.name, *who)).encode(), "sha256").hex()
