"""Deliveries: each thing that a paid offer delivers, once, into the chat it was bought in."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Row, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert

from bot_manager import access, log, messages, timeline
from bot_manager.app import Threads, vault
from bot_manager.channels.base import Button, ChannelError, Content
from bot_manager.funnels import texts
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue, set_timer
from models import Base, Bot, Delivery, DeliveryState, Payment, PaymentStatus, db

logger = logging.getLogger(__name__)

PURPOSE = "delivery.invite"
AGAIN_S = 900.0

# Built once and on tables, as all that every sale passes.
_payment = Base.metadata.tables["payment"]
_customer = Base.metadata.tables["customer"]
_delivery = Base.metadata.tables["delivery"]
_SALE = (
    select(
        *_payment.c["id", "payment_id", "seller_id", "bot_id", "customer_id", "status", "test", "trace_id"],
        _payment.c["items"].label("things"),
        *(_payment.c.offer_name, _customer.c.blocked_at),
    )
    .join(_customer, _customer.c.id == _payment.c.customer_id)
    .where(_payment.c.id == bindparam("payment"))
    .with_for_update(of=[_payment, _customer], key_share=True)
)
_MAKE = insert(_delivery).on_conflict_do_nothing()
_WAITING = (
    select(*_delivery.c["id", "item", "invite_sealed"])
    .where(_delivery.c.payment_id == bindparam("payment"), _delivery.c.state == DeliveryState.WAITING)
    .order_by(_delivery.c.item)
    .with_for_update()
)
_BECOMES = (
    update(_delivery)
    .where(_delivery.c.id == bindparam("row"))
    .values(state=bindparam("became"), note=func.coalesce(bindparam("why"), _delivery.c.note))
)

Sale: TypeAlias = Row[*tuple[Any, ...]]  # a row of _SALE
Waiting: TypeAlias = Row[*tuple[Any, ...]]  # a row of _WAITING


class Inviting(Protocol):
    async def invite(self, token: str, group_id: int, name: str) -> str:
        """A link by which people ask to enter a group. Raises ChannelError."""


class NoInvitation(Exception):
    """The group's invitation could not be made; the bot must be its administrator."""

    permanent = False


@dataclass(frozen=True, slots=True)
class Group:
    """A group that waits for its invitation."""

    delivery_id: int
    group_id: int
    token: str
    name: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A delivery under way: whose, and the groups that wait for an invitation."""

    customer_id: int
    groups: Sequence[Group] = ()


async def deliver(
    threads: Threads, inviting: Inviting, channels: Mapping[str, messages.Channel], seller: int, payment: int
) -> None:
    """Puts what was bought into the chat, and sends it. Raises NoInvitation, for another try, when the rest is sent."""
    begun = await threads.in_db(seller, _begin, payment)
    missing = await _invite(threads, inviting, seller, begun.groups)
    if begun.groups:
        await threads.in_db(seller, _queue, payment)
    # In this job, not in one of its own: should this run die, the next one finds nothing to queue and sends.
    await messages.send(threads, channels, seller, begun.customer_id)
    if missing:
        await threads.in_db(seller, _come_back, payment)
        raise missing


async def _invite(threads: Threads, inviting: Inviting, seller: int, groups: Sequence[Group]) -> NoInvitation | None:
    """Keeps an invitation into each group; answers why one is missing."""
    missing = None
    for group in groups:
        try:
            link = await inviting.invite(group.token, group.group_id, group.name)
        except ChannelError as error:
            missing = NoInvitation(log.told(error))
            await threads.in_db(seller, _note, group.delivery_id, str(missing))
        else:
            await threads.in_db(seller, _keep_invitation, group.delivery_id, link)
    return missing


def _begin(payment_id: int) -> Begun:
    """One Delivery per thing sold, however often this runs; all is queued, unless groups need an invitation first."""
    sale = _sale(payment_id)
    if sale.status != PaymentStatus.PAID:
        return Begun(sale.customer_id)
    things = [{"seller_id": sale.seller_id, "payment_id": sale.id, "item": item} for item in range(len(sale.things))]
    db.session.execute(_MAKE, things)
    waiting = _waiting(sale)
    groups = _to_invite(sale, waiting)
    if not groups:
        _hand_over(sale, waiting)
    return Begun(sale.customer_id, groups)


def _sale(payment_id: int) -> Sale:
    """The payment and its customer, both locked: a refund comes before or after, and a chat has one order."""
    return db.session.execute(_SALE, {"payment": payment_id}).one()


def _waiting(sale: Sale) -> Sequence[Waiting]:
    return db.session.execute(_WAITING, {"payment": sale.id}).all()


def _to_invite(sale: Sale, waiting: Sequence[Waiting]) -> list[Group]:
    wanted = [thing for thing in waiting if not _is_ready(sale, thing)]
    bot = db.session.get_one(Bot, sale.bot_id) if wanted else None
    if bot is None or bot.token_sealed is None:
        return []
    token = vault().open(bot.token_sealed, "bot.token", bot.seller_id)
    return [Group(thing.id, int(sale.things[thing.item]["chat_id"]), token, sale.payment_id[-32:]) for thing in wanted]


def _come_back(payment_id: int) -> None:
    """However often the job engine tries: what was paid for is not given up because a bot has not its rights yet."""
    payment = db.session.get_one(Payment, payment_id)
    job = Job(Name.DELIVER, payment.seller_id, payment.trace_id, {"payment": payment.id})
    set_timer(f"deliver:{payment.id}", job, AGAIN_S)


def try_again(delivery_id: int) -> bool:
    """Has one that failed put into the chat again, by a job; False when there is none such. The caller commits."""
    failed = Delivery.id == delivery_id, Delivery.state == DeliveryState.FAILED
    paid = Payment.id == Delivery.payment_id, Payment.status == PaymentStatus.PAID
    waits = update(Delivery).where(*failed, *paid).values(state=DeliveryState.WAITING, note=None)
    row = db.session.execute(waits.returning(Payment.id, Payment.seller_id, Payment.trace_id)).one_or_none()
    if row:
        enqueue(Job(Name.DELIVER, row.seller_id, row.trace_id, {"payment": row.id}))
    return row is not None


def _note(delivery_id: int, why: str) -> None:
    db.session.execute(update(Delivery).where(Delivery.id == delivery_id).values(note=why[:300]))


def _keep_invitation(delivery_id: int, link: str) -> None:
    delivery = db.session.get_one(Delivery, delivery_id)
    delivery.invite_sealed = delivery.invite_sealed or vault().seal(link, PURPOSE, delivery.seller_id)
    delivery.note = None


def _queue(payment_id: int) -> None:
    sale = _sale(payment_id)
    if sale.status == PaymentStatus.PAID:  # the money may have gone back while the groups were asked
        _hand_over(sale, _waiting(sale))


def _hand_over(sale: Sale, waiting: Sequence[Waiting]) -> None:
    """Puts the message of each delivery that is ready at the end of the chat; the deliveries' rows are locked."""
    for thing in waiting:
        if _is_ready(sale, thing):
            _hand_over_one(sale, thing)


def _is_ready(sale: Sale, thing: Waiting) -> bool:
    return sale.things[thing.item]["kind"] == "link" or sale.test or thing.invite_sealed is not None


def _hand_over_one(sale: Sale, thing: Waiting) -> None:
    item = sale.things[thing.item]
    if sale.test and item["kind"] == "group":
        _skip(sale, thing)
        return
    content = _content(sale, item, thing)
    messages.put(_recipient(sale), content, sale.trace_id, sale.test, payment_id=sale.id, delivery_id=thing.id)
    state = DeliveryState.BLOCKED if sale.blocked_at else DeliveryState.QUEUED
    db.session.execute(_BECOMES, {"row": thing.id, "became": state, "why": None})
    if item["kind"] == "group":
        payment, delivery = db.session.get_one(Payment, sale.id), db.session.get_one(Delivery, thing.id)
        access.grant(payment, delivery, int(item["chat_id"]), item.get("days"))


def _recipient(sale: Sale) -> messages.Recipient:
    return messages.Recipient(sale.customer_id, sale.seller_id, sale.bot_id)


def _skip(sale: Sale, thing: Waiting) -> None:
    why = "venda de teste não dá acesso a grupo"
    content = Content(texts.delivered_test_group(sale.offer_name))
    messages.put(_recipient(sale), content, sale.trace_id, sale.test)
    db.session.execute(_BECOMES, {"row": thing.id, "became": DeliveryState.SKIPPED, "why": why})
    timeline.add(sale.seller_id, sale.id, "delivery_skipped", item=thing.item, why=why)


def _content(sale: Sale, item: Mapping[str, Any], thing: Waiting) -> Content:
    if item["kind"] == "link":
        text = texts.delivered_link(sale.offer_name, item["url"])
        return Content(text, (Button(texts.OPEN, url=item["url"]),))
    link = vault().open(thing.invite_sealed or b"", PURPOSE, sale.seller_id)
    text = texts.delivered_group(sale.offer_name, item.get("days"))
    return Content(text, (Button(texts.ENTER, url=link),))
