"""After an absence: every charge that may have been paid meanwhile is asked about, the likeliest first.

Providers give up on a notice after minutes, so that what was paid while nobody worked here is only learnt by asking.
That we were away is seen by the clock's own pulse, a row that each tick renews: a tick that finds it old writes down a
`Lookup` for each charge in question. One job an account works them off, as fast as its gateway bears; what can't be
reached is asked again later, and holds up nobody else. A backup that is restored brings an old pulse with it, and so
the same thing happens.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.engine import Connection

import gateways
from bot_manager import log
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, cancel_timer, set_timer
from bot_manager.payments import charges
from bot_manager.payments.accounts import note_error
from gateways.base import GatewayError, GatewayMisconfigured, GatewayTimeout, GatewayUnreachable
from models import Gateway, Lookup, db

logger = logging.getLogger(__name__)

BEAT_S = 10.0
ABSENT_AFTER_S = 300.0  # shorter ones the looks at open charges make up for
LOOK_BACK = (timedelta(hours=1), charges.CODES_LIVE)  # the longer we were away, the older the codes paid meanwhile
LOOK_BACK_TIMES = 8
SLICE_S = 5.0
LEASE_S = 60.0  # a job that died is taken up again
LONGEST_PAUSE_S = 60.0
KEPT = charges.UNHEARD_FOR
MOST_TRIES = 10  # answers that can't be used; then only the ordinary looks are left
ABREAST = 8  # accounts worked on at once, so that there are always threads for sales
LATER = 1_000_000  # places

_BEAT = text(
    "with before as (select at from pulse where name = 'clock'), beat as ("
    " insert into pulse (name, at) select 'clock', now()"
    "  where not exists (select from before where at > now() - make_interval(secs => :beat))"
    " on conflict (name) do update set at = excluded.at)"
    " select at from before where at < now() - make_interval(secs => :absent)"
)
_READ_ALL = text("select set_config('app.operator', 'on', true)")
_FIND = text(
    "insert into lookup (attempt_id, payment_id, gateway_id, seller_id, place)"
    " select a.id, p.id, a.gateway_id, a.seller_id, row_number() over (partition by a.gateway_id order by"
    "  coalesce(p.asked_at > :began - interval '5 minutes', false) desc, p.expires_at > :began desc, p.id desc)"
    " from charge_attempt a join payment p on p.id = a.payment_id"
    " where p.status not in ('paid', 'refunded') and not p.test and a.state in ('made', 'unknown', 'sending')"
    " and p.expires_at > :since on conflict do nothing"
)
# Their own looks would all fall due now: they wait until after the lookups, as a net below them.
_POSTPONE_LOOKS = text(
    "update timer set due_at = greatest(timer.due_at, now() + make_interval(secs => 600 + least(l.place, 3600)))"
    " from lookup l where timer.key = 'look:' || l.payment_id"
)
_START = text(
    "insert into timer (key, kind, seller_id, args, lock, trace_id, due_at)"
    " select 'reconcile:' || gateway_id, :kind, seller_id, jsonb_build_object('gateway', gateway_id),"
    "  'reconcile:' || gateway_id % :abreast, :trace, now()"
    " from lookup group by gateway_id, seller_id on conflict do nothing"
)
_WRITE_DOWN = text("insert into absence (began_at, charges) values (:began, :charges)")


@dataclass(frozen=True, slots=True)
class Item:
    """One lookup, read."""

    attempt_id: int
    tries: int


def beat(connection: Connection) -> None:
    """Renews the pulse; when it had stopped, has asked what was missed. For the clock, in a transaction of its own."""
    began = connection.execute(_BEAT, {"beat": BEAT_S, "absent": ABSENT_AFTER_S}).scalar_one_or_none()
    if began:
        ask_what_was_missed(connection, began)


def ask_what_was_missed(connection: Connection, began: datetime) -> int:
    """Has every charge asked about that may have been paid since then; answers how many. Safe to call twice."""
    now = connection.execute(text("select now()")).scalar_one()
    least, most = LOOK_BACK
    since = began - min(most, max(least, (now - began) * LOOK_BACK_TIMES))
    connection.execute(_READ_ALL)
    found = connection.execute(_FIND, {"began": began, "since": since}).rowcount
    connection.execute(_POSTPONE_LOOKS)
    connection.execute(_START, {"kind": Name.RECONCILE, "abreast": ABREAST, "trace": log.new_trace_id()})
    connection.execute(_WRITE_DOWN, {"began": began, "charges": found})
    logger.warning("we were away", extra={"since": began.isoformat(), "charges": found})
    return found


def reconcile(gateway: int, failures: int = 0) -> None:
    """Asks about the next charges of one account. failures: in how many slices on end it could not be reached."""
    began = time.monotonic()
    edge = gateways.get(_come_back(gateway, LEASE_S, failures))
    for item in _next(gateway, max(1, round(edge.asks_a_second * SLICE_S))):
        if pause := _ask(gateway, item):
            _come_back(gateway, pause * min(2.0**failures, LONGEST_PAUSE_S / pause), failures + 1)
            return
    if _next(gateway, 1):
        _come_back(gateway, max(0.0, SLICE_S - (time.monotonic() - began)), 0)
    else:
        cancel_timer(f"reconcile:{gateway}")
        db.session.commit()


def _come_back(gateway_id: int, seconds: float, failures: int) -> str:
    """Sets this account's next slice; answers the gateway's kind."""
    gateway = db.session.get_one(Gateway, gateway_id)
    args = {"gateway": gateway_id, "failures": failures}
    lock = f"reconcile:{gateway_id % ABREAST}"
    job = Job(Name.RECONCILE, gateway.seller_id, log.trace_id.get() or log.new_trace_id(), args, lock)
    set_timer(f"reconcile:{gateway_id}", job, seconds)
    kind = gateway.kind
    db.session.commit()
    return kind


def _next(gateway_id: int, most: int) -> list[Item]:
    db.session.execute(delete(Lookup).where(Lookup.gateway_id == gateway_id, Lookup.created_at < func.now() - KEPT))
    mine = select(Lookup).where(Lookup.gateway_id == gateway_id).order_by(Lookup.place).limit(most)
    found = [Item(row.attempt_id, row.tries) for row in db.session.scalars(mine)]
    db.session.commit()
    return found


def _ask(gateway_id: int, item: Item) -> float:
    """Asks about one charge; answers how long the whole account had better be left alone, in seconds."""
    try:
        charges.look_at(item.attempt_id)
    except GatewayError as error:
        pause = _pause(error)
        note_error(gateway_id, str(error))
        _put_off(item, fault=not pause)
        return pause
    _done(item)
    return 0.0


def _pause(error: GatewayError) -> float:
    if isinstance(error, GatewayMisconfigured):
        return LONGEST_PAUSE_S
    return SLICE_S if isinstance(error, GatewayUnreachable | GatewayTimeout) else 0.0


def _put_off(item: Item, *, fault: bool) -> None:
    """To the end of the line: what is wrong may be wrong with this charge alone. fault: an answer of no use."""
    if item.tries >= MOST_TRIES:
        logger.error("a charge can't be looked up", extra={"attempt": item.attempt_id})
        _done(item)
        return
    row = update(Lookup).where(Lookup.attempt_id == item.attempt_id)
    db.session.execute(row.values(tries=Lookup.tries + int(fault), place=Lookup.place + LATER))
    db.session.commit()


def _done(item: Item) -> None:
    db.session.execute(delete(Lookup).where(Lookup.attempt_id == item.attempt_id))
    db.session.commit()
