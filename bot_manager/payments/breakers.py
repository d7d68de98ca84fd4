"""The circuit breakers of gateway accounts, in the database: every worker sees the same one.

`gateways.breaker` says what becomes of it; here its columns are read and written, the gateway's row held meanwhile, so
that two workers' failures are two. What costs a sale nothing is left out: while all goes well no row is touched.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, bindparam, func, or_, select, update
from sqlalchemy.engine import CursorResult

from gateways import breaker
from gateways.base import GatewayError, GatewayRefused
from gateways.breaker import Breaker, State, Verdict
from models import Base, Gateway, db

logger = logging.getLogger(__name__)

_gateway = Base.metadata.tables["gateway"]
COLUMNS = tuple(_gateway.c[name] for name in Breaker.__dataclass_fields__)
_HELD = select(*COLUMNS).where(_gateway.c.id == bindparam("row")).with_for_update()
# `breaker.after` a success, without a look at the row before.
_KEPT = {
    "failed_at": _gateway.c.failed_at,
    "outcomes": func.right(_gateway.c.outcomes + breaker.CHARGED, breaker.WINDOW),
}
_WELL = (
    update(_gateway)
    .where(_gateway.c.id == bindparam("row"))
    .values(**asdict(Breaker()) | _KEPT, last_error=None, last_error_at=None, last_charge_at=func.now())
)
_PROBE = (
    update(_gateway)
    .where(
        _gateway.c.id == bindparam("row"),
        _gateway.c.open_until <= bindparam("now"),
        or_(_gateway.c.probe_until.is_(None), _gateway.c.probe_until <= bindparam("now")),
    )
    .values(probe_until=bindparam("until"))
)


def read(row: Gateway | RowMapping) -> Breaker:
    """The breaker of a gateway's row, or of one that selects COLUMNS."""
    names = Breaker.__dataclass_fields__
    return Breaker(**{name: row[name] if isinstance(row, RowMapping) else getattr(row, name) for name in names})


def is_open(gateway: Gateway) -> bool:
    """Whether it is left alone, or on probation."""
    return breaker.state(read(gateway), datetime.now(UTC)) is not State.CLOSED


def take_probe(gateway_id: int) -> bool:
    """Whether this run may probe the account: one at a time in all workers, until its outcome is told."""
    now = datetime.now(UTC)
    result = db.session.execute(_PROBE, {"row": gateway_id, "now": now, "until": now + breaker.PROBE_TAKES})
    return isinstance(result, CursorResult) and result.rowcount == 1


def succeeded(gateway_id: int) -> None:
    """It made a charge: it is closed, and only how often it failed lately is still held against it."""
    db.session.execute(_WELL, {"row": gateway_id})


def failed(gateway_id: int, error: GatewayError, *, probe: bool) -> None:
    """It made no charge. probe: this was the probe that `take_probe` allowed."""
    now = datetime.now(UTC)
    before = read(db.session.execute(_HELD, {"row": gateway_id}).mappings().one())
    verdict = Verdict.NOTHING if isinstance(error, GatewayRefused) else Verdict.BAD
    after = breaker.after(before, verdict, now, probe=probe)
    said: dict[str, Any] = {"last_error": str(error)[:300], "last_error_at": now}
    db.session.execute(update(Gateway).where(Gateway.id == gateway_id).values(**asdict(after), **said))
    if after.openings > before.openings:
        detail = {"gateway": gateway_id, "failures": after.failures, "until": f"{after.open_until:%H:%M:%S}"}
        logger.error("a gateway is left alone for a while", extra=detail)


def reset(gateway: Gateway) -> None:
    """The seller has changed something about it: it starts anew."""
    for name, value in asdict(Breaker()).items():
        setattr(gateway, name, value)
    gateway.last_error = gateway.last_error_at = None
