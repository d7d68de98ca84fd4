"""Access to groups: granted with a delivery, asked for at the group's door, ended by time or by a refund.

An invitation may be passed on; a right can't be. So its link only lets people ask, and whoever asks is let in if they
have an access of their own that is open.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy import ColumnElement, or_, select

from bot_manager import log, messages, timeline
from bot_manager.app import Threads, vault
from bot_manager.channels.base import Button, ChannelError, Content
from bot_manager.funnels import texts
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue, set_timer
from models import Access, AccessState, Bot, Customer, Delivery, Payment, db

logger = logging.getLogger(__name__)

TRY_AGAIN_S = 3600.0


class Doorkeeper(Protocol):
    """All raise ChannelError."""

    async def let_in(self, token: str, group_id: int, person_id: int) -> bool: ...

    async def turn_away(self, token: str, group_id: int, person_id: int) -> None: ...

    async def remove(self, token: str, group_id: int, person_id: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody at a group's door, or to be shown it. access_id: their right to be there, None without one."""

    access_id: int | None
    token: str
    group_id: int
    person_id: int


# Granted -----------------------------------------------------------------------------------------------------------


def grant(payment: Payment, delivery: Delivery, group_id: int, days: int | None) -> None:
    """The right that a delivery gives; bought again before its end, the days are added. The caller commits.

    Delivered again, since the first message failed, it begins anew, unless they are inside already.
    """
    access = db.session.scalar(select(Access).where(Access.delivery_id == delivery.id).with_for_update())
    if access and access.entered_at:
        return
    access = access or Access(
        seller_id=payment.seller_id,
        delivery_id=delivery.id,
        payment_id=payment.id,
        customer_id=payment.customer_id,
        group_id=group_id,
    )
    access.state, access.ended_at, access.why = AccessState.OPEN, None, None
    access.ends_at = _last_end(access) + timedelta(days=days) if days else None
    db.session.add(access)
    db.session.flush()
    if access.ends_at:
        _end_in(access, payment.trace_id, (access.ends_at - datetime.now(UTC)).total_seconds())


def _last_end(access: Access) -> datetime:
    others = *_open(access.customer_id, access.group_id), Access.delivery_id != access.delivery_id
    ends = db.session.scalars(select(Access.ends_at).where(*others))
    return max([datetime.now(UTC), *(end for end in ends if end)])


def _open(customer_id: int, group_id: int) -> tuple[ColumnElement[bool], ...]:
    theirs = Access.customer_id == customer_id, Access.group_id == group_id
    return *theirs, Access.state == AccessState.OPEN


def _end_in(access: Access, trace: str, seconds: float) -> None:
    set_timer(f"access:{access.id}", _end_job(access, trace), seconds)


def _end_job(access: Access, trace: str) -> Job:
    return Job(Name.END_ACCESS, access.seller_id, trace, {"access": access.id})


# Asked for ---------------------------------------------------------------------------------------------------------


async def admit(threads: Threads, door: Doorkeeper, seller: int, customer: int, group: str) -> None:
    """Lets in who may enter and turns away who may not. Raises ChannelError, for another try."""
    visitor = await threads.in_db(seller, _at_the_door, customer, int(group))
    if visitor is None:
        return
    if visitor.access_id is None:
        await door.turn_away(visitor.token, visitor.group_id, visitor.person_id)
        return
    if await door.let_in(visitor.token, visitor.group_id, visitor.person_id):
        await threads.in_db(seller, _entered, visitor.access_id)


def _at_the_door(customer_id: int, group_id: int) -> Visitor | None:
    """None when we keep no such door: then it is for the group's people to decide."""
    if db.session.scalar(select(Access.id).where(Access.group_id == group_id).limit(1)) is None:
        return None
    lasting = or_(Access.ends_at.is_(None), Access.ends_at > datetime.now(UTC))
    newest = select(Access.id).where(*_open(customer_id, group_id), lasting).order_by(Access.id.desc()).limit(1)
    return _visitor(db.session.scalar(newest), customer_id, group_id)


def _visitor(access_id: int | None, customer_id: int, group_id: int) -> Visitor | None:
    customer = db.session.get_one(Customer, customer_id)
    bot = db.session.get_one(Bot, customer.bot_id)
    if bot.token_sealed is None:
        return None
    return Visitor(
        access_id, vault().open(bot.token_sealed, "bot.token", bot.seller_id), group_id, int(customer.chat_id)
    )


def _entered(access_id: int) -> None:
    access = db.session.get_one(Access, access_id, with_for_update=True)
    if access.entered_at is None:
        access.entered_at = datetime.now(UTC)
        timeline.add(access.seller_id, access.payment_id, "entered")


# Ended -------------------------------------------------------------------------------------------------------------


def take_back(payment: int) -> None:
    """Ends all that a sale had given, now."""
    given = select(Access).where(Access.payment_id == payment, Access.state == AccessState.OPEN).with_for_update()
    for access in db.session.scalars(given).all():
        access.ends_at, access.why = datetime.now(UTC), "refunded"
        enqueue(_end_job(access, log.trace_id.get()))
    db.session.commit()


async def end(threads: Threads, door: Doorkeeper, seller: int, access: int) -> None:
    """Removes the customer once the right is over, and again in an hour as long as the channel does not let us."""
    visitor = await threads.in_db(seller, _to_leave, access)
    if visitor is None:
        return
    try:
        await door.remove(visitor.token, visitor.group_id, visitor.person_id)
    except ChannelError as error:
        await threads.in_db(seller, _still_inside, access, error)
    else:
        await threads.in_db(seller, _ended, access)


def _to_leave(access_id: int) -> Visitor | None:
    """Who is to be removed; None while the right lasts, and when another one keeps them in."""
    access = db.session.get_one(Access, access_id, with_for_update=True)
    if access.state != AccessState.OPEN or access.ends_at is None or access.ends_at > datetime.now(UTC):
        return None
    if _outlasted(access):
        _close(access)
        return None
    return _visitor(access.id, access.customer_id, access.group_id)


def _outlasted(access: Access) -> bool:
    longer = or_(Access.ends_at.is_(None), Access.ends_at > datetime.now(UTC))
    others = select(Access.id).where(*_open(access.customer_id, access.group_id), Access.id != access.id, longer)
    return db.session.scalar(others.limit(1)) is not None


def _ended(access_id: int) -> None:
    """Once, however often the removal was tried."""
    access = db.session.get_one(Access, access_id, with_for_update=True)
    if access.state != AccessState.OPEN:
        return
    _close(access)
    customer = db.session.get_one(Customer, access.customer_id, with_for_update={"key_share": True})
    payment = db.session.get_one(Payment, access.payment_id)
    timeline.add(access.seller_id, access.payment_id, "access_ended", reason=access.why)
    if customer.blocked_at is None:
        text = texts.access_ended(payment.offer_name, access.why or "")
        messages.put(customer, Content(text, (Button(texts.OFFERS, data="menu"),)), payment.trace_id)
        messages.have_sent(customer, payment.trace_id)


def _close(access: Access) -> None:
    access.state, access.ended_at, access.last_error = AccessState.ENDED, datetime.now(UTC), None
    access.why = access.why or "expired"


def _still_inside(access_id: int, error: ChannelError) -> None:
    access = db.session.get_one(Access, access_id)
    access.last_error = log.told(error)[:300]
    _end_in(access, log.trace_id.get(), TRY_AGAIN_S)
    logger.error("a customer whose access is over could not be removed", extra={"access": access.id})
