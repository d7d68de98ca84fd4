"""Purchases told to ad platforms: one event per destination, under one id for ever, never in the way of money.

The row is claimed and committed before the call, so that what became of a call that was cut off is known to be
unknown: such an event is sent again under the same id, for as long as the platform recognises it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import Row, and_, any_, bindparam, case, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from bot_manager import log, timeline
from bot_manager.addresses import link_url
from bot_manager.app import settings, vault
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, cancel_timer, enqueue, set_timer
from models import Base, Conversion, ConversionState, Destination, PaymentStatus, db
from tracking import destinations
from tracking.clicks import recover_by_tracking_token
from tracking.destinations import base
from tracking.destinations.base import (
    Ambiguous,
    ConversionEvent,
    DestinationError,
    DestinationRefused,
    DestinationThrottled,
    EventName,
    Visitor,
)

logger = logging.getLogger(__name__)

CLAIM = timedelta(seconds=30)  # longer than a call may take: a claim that old belongs to the dead
LONGEST_WAIT_S = 3600.0

# Built once and on tables, as all that every sale passes.
_conversion = Base.metadata.tables["conversion"]
_destination = Base.metadata.tables["destination"]
_payment = Base.metadata.tables["payment"]
_customer = Base.metadata.tables["customer"]
_SKIPPED = and_(_payment.c.test, func.coalesce(_destination.c.test_event_code, "") == "")
_MAKE = (
    insert(_conversion)
    .from_select(
        [
            *("seller_id", "destination_id", "payment_id", "event_name", "event_id", "event_time", "trace_id"),
            *("state", "last_error"),
        ],
        select(
            *(_payment.c.seller_id, _destination.c.id, _payment.c.id, literal(EventName.PURCHASE)),
            *(literal("purchase.") + _payment.c.payment_id, _payment.c.paid_at, _payment.c.trace_id),
            case((_SKIPPED, ConversionState.SKIPPED), else_=ConversionState.WAITING),
            case((_SKIPPED, "venda de teste, e o destino não tem código de teste")),
        )
        .join(_destination, _destination.c.seller_id == _payment.c.seller_id)
        .where(_payment.c.id == bindparam("payment"), _payment.c.status == PaymentStatus.PAID)
        .where(_destination.c.archived_at.is_(None))
        .where(or_(_destination.c.bot_ids.is_(None), _payment.c.bot_id == any_(_destination.c.bot_ids))),
    )
    .on_conflict_do_nothing()
    .returning(*_conversion.c["id", "seller_id", "state", "trace_id"])
)
_CLAIM = (
    update(_conversion)
    .where(_conversion.c.id == bindparam("row"))
    .where(
        or_(
            _conversion.c.state == ConversionState.WAITING,
            and_(
                _conversion.c.state == ConversionState.SENDING,
                _conversion.c.claimed_at < func.clock_timestamp() - CLAIM,
            ),
        )
    )
    .values(
        state=ConversionState.SENDING,
        claimed_at=func.clock_timestamp(),
        attempts=_conversion.c.attempts + 1,
    )
    .returning(_conversion.c.id)
)
_TOLD = (
    select(
        *_conversion.c["seller_id", "event_name", "event_id", "event_time", "trace_id", "created_at"],
        *_destination.c["kind", "pixel_id", "access_token_sealed", "test_event_code", "paused_note", "archived_at"],
        *_payment.c["payment_id", "amount_cents", "currency", "offer_id", "tracking_token"],
        *_customer.c["external_id", "profile_sealed"],
    )
    .join(_destination, _destination.c.id == _conversion.c.destination_id)
    .join(_payment, _payment.c.id == _conversion.c.payment_id)
    .join(_customer, _customer.c.id == _payment.c.customer_id)
    .where(_conversion.c.id == bindparam("row"))
)
_END = (
    update(_conversion)
    .where(_conversion.c.id == bindparam("row"))
    .values(
        state=bindparam("became"),
        last_error=bindparam("why"),
        ended_at=func.clock_timestamp(),
        receipt=func.coalesce(bindparam("proof"), _conversion.c.receipt),
    )
    .returning(*_conversion.c["seller_id", "payment_id", "destination_id"])
)

Told: TypeAlias = Row[*tuple[Any, ...]]  # a row of _TOLD
About: TypeAlias = Row[*tuple[Any, ...]]  # a row of _END


@dataclass(frozen=True, slots=True)
class Ready:
    """One event, claimed and ready to be sent outside of any transaction."""

    conversion_id: int
    kind: str
    account: base.Account
    event: ConversionEvent
    first_sent_at: datetime


def report(payment: int) -> None:
    """Makes the purchase's event for each destination that wants this bot's sales, once; sends one, has others sent."""
    made = db.session.execute(_MAKE, {"payment": payment}).all()
    waiting = [row for row in made if row.state == ConversionState.WAITING]
    if others := waiting[1:]:
        enqueue(*(_job(row.seller_id, row.id, row.trace_id) for row in others))
    if waiting:
        send_meta_pixel_purchase_event(waiting[0].id)
    db.session.commit()


def send_meta_pixel_purchase_event(conversion: int) -> None:
    """Sends one purchase event to its destination, Meta or another, and writes down what became of it."""
    ready = _claim(conversion)
    db.session.commit()
    if ready is None:
        return
    try:
        receipt = destinations.get(ready.kind).send(ready.account, [ready.event])
    except DestinationError as error:
        _not_taken(ready, error)
    else:
        _taken(ready, receipt.trace_id)
    db.session.commit()


def _claim(conversion_id: int) -> Ready | None:
    if db.session.execute(_CLAIM, {"row": conversion_id}).first() is None:
        return None
    told = db.session.execute(_TOLD, {"row": conversion_id}).one()
    if told.paused_note or told.archived_at:
        _end(conversion_id, ConversionState.PAUSED, told.paused_note or "o destino foi retirado")
        return None
    if datetime.now(UTC) - told.event_time > destinations.get(told.kind).max_age:
        _end(conversion_id, ConversionState.EXPIRED, "mais velho do que o destino aceita")
        return None
    # Should this run die, the row's next try comes from here.
    set_timer(_key(conversion_id), _job(told.seller_id, conversion_id, told.trace_id), 60)
    return Ready(conversion_id, told.kind, _account(told), _event(told), told.created_at)


def _account(told: Told) -> base.Account:
    token = vault().open(told.access_token_sealed, "destination.access_token", told.seller_id)
    urls = {"meta": settings().meta_graph_url}
    base_url = urls.get(told.kind, destinations.get(told.kind).api_url)
    return base.Account(base_url, {"pixel_id": told.pixel_id, "access_token": token}, told.test_event_code)


def _event(told: Told) -> ConversionEvent:
    return ConversionEvent(
        event_name=EventName(told.event_name),
        event_id=told.event_id,
        event_time=told.event_time,
        value_cents=told.amount_cents,
        currency=told.currency,
        visitor=_visitor(told.tracking_token),
        customer=_buyer(told),
        order_id=told.payment_id,
        content_id=f"offer-{told.offer_id}",
    )


def _visitor(token: str | None) -> Visitor:
    found = recover_by_tracking_token(token)
    if found is None:
        return Visitor()
    click, seen = found
    url = link_url(click.slug)
    return Visitor(ip=seen.ip, user_agent=seen.user_agent, fbp=seen.fbp, fbc=seen.fbc, source_url=url)


def _buyer(told: Told) -> base.Customer:
    sealed = told.profile_sealed
    profile = vault().open_json(sealed, "customer.profile", told.seller_id) if sealed else {}
    known = {name: profile.get(name) for name in ("email", "phone", "first_name", "last_name")}
    # Who paid by PIX has an account in Brazil.
    return base.Customer(**known, external_id=told.external_id, country="br")


def _taken(ready: Ready, receipt: str) -> None:
    about = _end(ready.conversion_id, ConversionState.DELIVERED, receipt=receipt)
    timeline.add(about.seller_id, about.payment_id, "reported", destination=about.destination_id)


def _not_taken(ready: Ready, error: DestinationError) -> None:
    conversion = db.session.get_one(Conversion, ready.conversion_id)
    why = log.told(error)
    logger.warning("a destination did not take an event", extra={"conversion": conversion.id, "why": why})
    if error.pauses:
        _pause(conversion, why)
    elif error.permanent or _too_late(ready, error):
        about = _end(conversion.id, ConversionState.DEAD, why)
        timeline.add(about.seller_id, about.payment_id, "report_failed", destination=about.destination_id, why=why)
    else:
        conversion.state, conversion.last_error = ConversionState.WAITING, why[:300]
        job = _job(conversion.seller_id, conversion.id, log.trace_id.get() or conversion.trace_id)
        set_timer(_key(conversion.id), job, _wait(conversion, error))


def _too_late(ready: Ready, error: DestinationError) -> bool:
    """An event that may have arrived is sent again only while the platform would recognise it."""
    window = destinations.get(ready.kind).dedup_window
    return isinstance(error, Ambiguous) and datetime.now(UTC) - ready.first_sent_at > window


def _wait(conversion: Conversion, error: DestinationError) -> float:
    seconds = min(LONGEST_WAIT_S, 2.0**conversion.attempts)
    return max(seconds, error.wait_seconds) if isinstance(error, DestinationThrottled) else seconds


def _pause(conversion: Conversion, why: str) -> None:
    """Only the seller can mend it: the destination rests, its events wait."""
    destination = db.session.get_one(Destination, conversion.destination_id)
    destination.paused_note = why[:300]
    _end(conversion.id, ConversionState.PAUSED, why)


def resume(destination: Destination) -> None:
    """The seller mended the destination: what waited goes out, unless it has become too old."""
    destination.paused_note = None
    theirs = Conversion.destination_id == destination.id, Conversion.state == ConversionState.PAUSED
    waiting: Sequence[Conversion] = db.session.scalars(select(Conversion).where(*theirs)).all()
    for conversion in waiting:
        conversion.state, conversion.ended_at = ConversionState.WAITING, None
    if waiting:
        enqueue(*(_job(c.seller_id, c.id, c.trace_id) for c in waiting))


def try_again(conversion_id: int) -> bool:
    """Has an event that was given up sent again, by a job; False when there is none such. The caller commits.

    One that may have arrived, and would not be recognised any more, expires instead: it must not count twice.
    """
    dead = select(Conversion).where(Conversion.id == conversion_id, Conversion.state == ConversionState.DEAD)
    conversion = db.session.scalar(dead.with_for_update())
    if conversion and _would_count_twice(conversion):
        _end(conversion.id, ConversionState.EXPIRED, "pode ter chegado, e o anúncio já não veria que é a mesma compra")
    elif conversion:
        conversion.state, conversion.ended_at = ConversionState.WAITING, None
        enqueue(_job(conversion.seller_id, conversion.id, conversion.trace_id))
        return True
    return False


def _would_count_twice(conversion: Conversion) -> bool:
    """Only of one that was refused at the first try is it known that it never arrived."""
    if conversion.attempts == 1 and (conversion.last_error or "").startswith(DestinationRefused.__name__):
        return False
    destination = db.session.get_one(Destination, conversion.destination_id)
    return datetime.now(UTC) - conversion.created_at > destinations.get(destination.kind).dedup_window


def _end(conversion_id: int, state: ConversionState, why: str | None = None, receipt: str | None = None) -> About:
    values = {"row": conversion_id, "became": state, "why": why and why[:300], "proof": receipt}
    about = db.session.execute(_END, values).one()
    cancel_timer(_key(conversion_id))
    return about


def _job(seller_id: int, conversion_id: int, trace: str) -> Job:
    return Job(Name.SEND_CONVERSION, seller_id, trace, {"conversion": conversion_id})


def _key(conversion_id: int) -> str:
    return f"conversion:{conversion_id}"
