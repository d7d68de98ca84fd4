"""Purchases told to ad platforms: one event per destination, under one id for ever, never in the way of money.

The row is claimed and committed before the call, so that what became of a call that was cut off is known to be
unknown: such an event is sent again under the same id, for as long as the platform recognises it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from bot_manager import log, timeline
from bot_manager.addresses import link_url
from bot_manager.app import settings, vault
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, cancel_timer, enqueue, set_timer
from models import (
    Conversion,
    ConversionState,
    Customer,
    Destination,
    Link,
    Payment,
    PaymentStatus,
    db,
)
from tracking import destinations
from tracking.clicks import recover_by_tracking_token
from tracking.destinations import base
from tracking.destinations.base import (
    Ambiguous,
    ConversionEvent,
    DestinationError,
    DestinationThrottled,
    EventName,
    Visitor,
)

logger = logging.getLogger(__name__)

CLAIM = timedelta(seconds=30)  # longer than a call may take: a claim that old belongs to the dead
LONGEST_WAIT_S = 3600.0
OPEN = (ConversionState.WAITING, ConversionState.SENDING)


@dataclass(frozen=True, slots=True)
class Ready:
    """One event, claimed and ready to be sent outside of any transaction."""

    conversion_id: int
    kind: str
    account: base.Account
    event: ConversionEvent
    first_sent_at: datetime


def report(payment: int) -> None:
    """Makes the purchase's event for each destination that wants this bot's sales, once, and has them sent."""
    sale = db.session.get_one(Payment, payment)
    if sale.status == PaymentStatus.PAID:
        wanted = db.session.scalars(select(Destination).where(Destination.archived_at.is_(None)))
        events = [_event_row(sale, d) for d in wanted if d.bot_ids is None or sale.bot_id in d.bot_ids]
        if events:
            db.session.execute(insert(Conversion).on_conflict_do_nothing(), events)
            _have_sent(sale)
    db.session.commit()


def _event_row(sale: Payment, destination: Destination) -> dict[str, Any]:
    skipped = sale.test and not destination.test_event_code
    return {
        "seller_id": sale.seller_id,
        "destination_id": destination.id,
        "payment_id": sale.id,
        "event_name": EventName.PURCHASE,
        "event_id": f"purchase.{sale.payment_id}",
        "event_time": sale.paid_at,
        "state": ConversionState.SKIPPED if skipped else ConversionState.WAITING,
        "last_error": "venda de teste, e o destino não tem código de teste" if skipped else None,
        "trace_id": sale.trace_id,
    }


def _have_sent(sale: Payment) -> None:
    theirs = Conversion.payment_id == sale.id, Conversion.state == ConversionState.WAITING
    ids = db.session.scalars(select(Conversion.id).where(*theirs)).all()
    if ids:
        enqueue(*(_job(sale.seller_id, row, sale.trace_id) for row in ids))


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
    stale = and_(Conversion.state == ConversionState.SENDING, Conversion.claimed_at < datetime.now(UTC) - CLAIM)
    statement = (
        update(Conversion)
        .where(Conversion.id == conversion_id, or_(Conversion.state == ConversionState.WAITING, stale))
        .values(state=ConversionState.SENDING, claimed_at=datetime.now(UTC), attempts=Conversion.attempts + 1)
        .returning(Conversion.id)
    )
    if db.session.execute(statement).first() is None:
        return None
    conversion = db.session.get_one(Conversion, conversion_id)
    destination = db.session.get_one(Destination, conversion.destination_id)
    if destination.paused_note or destination.archived_at:
        _end(conversion, ConversionState.PAUSED, destination.paused_note or "o destino foi retirado")
        return None
    if datetime.now(UTC) - conversion.event_time > destinations.get(destination.kind).max_age:
        _end(conversion, ConversionState.EXPIRED, "mais velho do que o destino aceita")
        return None
    # Should this run die, the row's next try comes from here.
    set_timer(_key(conversion_id), _job(conversion.seller_id, conversion_id, conversion.trace_id), 60)
    return Ready(conversion_id, destination.kind, _account(destination), _event(conversion), conversion.created_at)


def _account(destination: Destination) -> base.Account:
    token = vault().open(destination.access_token_sealed, "destination.access_token", destination.seller_id)
    urls = {"meta": settings().meta_graph_url}
    base_url = urls.get(destination.kind, destinations.get(destination.kind).api_url)
    credentials = {"pixel_id": destination.pixel_id, "access_token": token}
    return base.Account(base_url, credentials, destination.test_event_code)


def _event(conversion: Conversion) -> ConversionEvent:
    sale = db.session.get_one(Payment, conversion.payment_id)
    return ConversionEvent(
        event_name=EventName(conversion.event_name),
        event_id=conversion.event_id,
        event_time=conversion.event_time,
        value_cents=sale.amount_cents,
        currency=sale.currency,
        visitor=_visitor(sale.tracking_token),
        customer=_customer(db.session.get_one(Customer, sale.customer_id)),
        order_id=sale.payment_id,
        content_id=f"offer-{sale.offer_id}",
    )


def _visitor(token: str | None) -> Visitor:
    found = recover_by_tracking_token(token)
    if found is None:
        return Visitor()
    click, seen = found
    slug = db.session.get_one(Link, click.link_id).slug
    return Visitor(ip=seen.ip, user_agent=seen.user_agent, fbp=seen.fbp, fbc=seen.fbc, source_url=link_url(slug))


def _customer(customer: Customer) -> base.Customer:
    sealed = customer.profile_sealed
    profile = vault().open_json(sealed, "customer.profile", customer.seller_id) if sealed else {}
    known = {name: profile.get(name) for name in ("email", "phone", "first_name", "last_name")}
    # Who paid by PIX has an account in Brazil.
    return base.Customer(**known, external_id=customer.external_id, country="br")


def _taken(ready: Ready, receipt: str) -> None:
    conversion = db.session.get_one(Conversion, ready.conversion_id)
    conversion.receipt = receipt
    _end(conversion, ConversionState.DELIVERED, None)
    timeline.add(conversion.seller_id, conversion.payment_id, "reported", destination=conversion.destination_id)


def _not_taken(ready: Ready, error: DestinationError) -> None:
    conversion = db.session.get_one(Conversion, ready.conversion_id)
    why = f"{type(error).__name__}: {error}"
    logger.warning("a destination did not take an event", extra={"conversion": conversion.id, "why": why})
    if error.pauses:
        _pause(conversion, why)
    elif error.permanent or _too_late(ready, error):
        _end(conversion, ConversionState.DEAD, why)
        timeline.add(
            conversion.seller_id, conversion.payment_id, "report_failed", destination=conversion.destination_id, why=why
        )
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
    _end(conversion, ConversionState.PAUSED, why)


def resume(destination: Destination) -> None:
    """The seller mended the destination: what waited goes out, unless it has become too old."""
    destination.paused_note = None
    theirs = Conversion.destination_id == destination.id, Conversion.state == ConversionState.PAUSED
    waiting: Sequence[Conversion] = db.session.scalars(select(Conversion).where(*theirs)).all()
    for conversion in waiting:
        conversion.state, conversion.ended_at = ConversionState.WAITING, None
    if waiting:
        enqueue(*(_job(c.seller_id, c.id, c.trace_id) for c in waiting))


def _end(conversion: Conversion, state: ConversionState, why: str | None) -> None:
    conversion.state, conversion.last_error = state, why and why[:300]
    conversion.ended_at = datetime.now(UTC)
    cancel_timer(_key(conversion.id))


def _job(seller_id: int, conversion_id: int, trace: str) -> Job:
    return Job(Name.SEND_CONVERSION, seller_id, trace, {"conversion": conversion_id})


def _key(conversion_id: int) -> str:
    return f"conversion:{conversion_id}"
