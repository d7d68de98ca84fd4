"""How long the database is waited for: a server that hangs must not take our threads with it.

The timeouts that PostgreSQL knows are kept by the server, and one that is stopped, or behind a line that is cut, keeps
none. So every wait has its bound on our side too; beyond it the connection is given up, as if it had broken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Self

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

LEAST_S = 1.0  # to connect in; the driver waits for two in any case
STATEMENT_S = 10.0  # longer than any statement of ours takes
IDLE_S = 10.0  # of an open transaction whose owner says nothing more: paused, and in the way of whoever took over
# For a `select` at the beginning of a transaction: ends with it, so that poolers of transactions may stand between.
SERVER_SIDE = (
    f"set_config('statement_timeout', '{STATEMENT_S:.0f}s', true),"
    f" set_config('idle_in_transaction_session_timeout', '{IDLE_S:.0f}s', true)"
)
_LINE: Mapping[str, int | str] = {
    "connect_timeout": 5,
    "application_name": "bot_manager",
    # A machine that is gone answers nothing at all: found out within half a minute instead of a quarter of an hour.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def give(seconds: float, since: float | None = None) -> None:
    """From here on all that this context asks the database for must come within so many seconds, in all.

    since: a moment of `time.monotonic()`; now, when it is not given.
    """
    _deadline.set((time.monotonic() if since is None else since) + seconds)


def at_most(seconds: float) -> None:
    """This context waits no longer than that, and no longer than it would have."""
    _deadline.set(time.monotonic() + min(seconds, left()))


def forget() -> None:
    """Back to the patience of a job: the context is used again."""
    _deadline.set(None)


def left() -> float:
    """Seconds that the next answer may take."""
    deadline = _deadline.get()
    return STATEMENT_S if deadline is None else max(0.0, deadline - time.monotonic())


def conninfo(url: str) -> str:
    """The address with what it takes to find out that the server is gone; what it says itself goes before."""
    return make_conninfo(url, **{name: value for name, value in _LINE.items() if name not in conninfo_to_dict(url)})


def connector(url: str) -> Callable[[], Connection]:
    """For SQLAlchemy's `creator`."""
    whole = conninfo(url)
    return lambda: Connection.connect(whole)


class Connection(psycopg.Connection[Any]):
    """Raises OperationalError and is closed when an answer does not come in time."""

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        seconds = left()
        if seconds < LEAST_S:
            raise psycopg.OperationalError("no time is left to connect to the database")
        longest = min(int(conninfo_to_dict(conninfo).get("connect_timeout") or 5), math.ceil(seconds))
        return super().connect(conninfo, **{**options, "connect_timeout": longest})

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, left() if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # its answer may yet come, and would be taken for the next one's
            raise
