"""Deliveries: each thing that a paid offer delivers, once, into the chat it was bought in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from bot_manager import access, messages, timeline
from bot_manager.app import Threads, vault
from bot_manager.channels.base import Button, ChannelError, Content
from bot_manager.funnels import texts
from models import Bot, Customer, Delivery, DeliveryState, Payment, PaymentStatus, db

logger = logging.getLogger(__name__)

PURPOSE = "delivery.invite"


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


async def deliver(threads: Threads, inviting: Inviting, seller: int, payment: int) -> None:
    """Queues what was bought into the chat. Raises NoInvitation, for another try, once all the rest is queued."""
    missing = None
    for group in await threads.in_db(seller, _prepare, payment):
        try:
            link = await inviting.invite(group.token, group.group_id, group.name)
        except ChannelError as error:
            missing = NoInvitation(f"{type(error).__name__}: {error}")
            await threads.in_db(seller, _note, group.delivery_id, str(missing))
        else:
            await threads.in_db(seller, _keep_invitation, group.delivery_id, link)
    await threads.in_db(seller, _queue, payment)
    if missing:
        raise missing


def _prepare(payment_id: int) -> list[Group]:
    """One Delivery per thing sold, however often this runs; answers the groups that need an invitation."""
    payment = db.session.get_one(Payment, payment_id)
    if payment.status != PaymentStatus.PAID:
        return []
    rows = [{"seller_id": payment.seller_id, "payment_id": payment.id, "item": i} for i in range(len(payment.items))]
    db.session.execute(insert(Delivery).on_conflict_do_nothing(), rows)
    bot = db.session.get_one(Bot, payment.bot_id)
    waiting = [d for d in _waiting(payment) if payment.items[d.item]["kind"] == "group" and not d.invite_sealed]
    if payment.test or not waiting or bot.token_sealed is None:
        return []
    token = vault().open(bot.token_sealed, "bot.token", bot.seller_id)
    return [Group(d.id, int(payment.items[d.item]["chat_id"]), token, payment.payment_id[-32:]) for d in waiting]


def _waiting(payment: Payment) -> list[Delivery]:
    theirs = Delivery.payment_id == payment.id, Delivery.state == DeliveryState.WAITING
    return list(db.session.scalars(select(Delivery).where(*theirs).order_by(Delivery.item).with_for_update()))


def _note(delivery_id: int, why: str) -> None:
    db.session.execute(update(Delivery).where(Delivery.id == delivery_id).values(note=why[:300]))


def _keep_invitation(delivery_id: int, link: str) -> None:
    delivery = db.session.get_one(Delivery, delivery_id)
    delivery.invite_sealed = delivery.invite_sealed or vault().seal(link, PURPOSE, delivery.seller_id)
    delivery.note = None


def _queue(payment_id: int) -> None:
    """Claims each waiting delivery by its row's lock, and puts its message at the end of the chat."""
    payment = db.session.get_one(Payment, payment_id)
    customer = db.session.get_one(Customer, payment.customer_id, with_for_update={"key_share": True})
    ready = [delivery for delivery in _waiting(payment) if _is_ready(payment, delivery)]
    for delivery in ready:
        _hand_over(payment, customer, delivery)
    if ready:
        messages.have_sent(customer, payment.trace_id)


def _is_ready(payment: Payment, delivery: Delivery) -> bool:
    return payment.items[delivery.item]["kind"] == "link" or payment.test or delivery.invite_sealed is not None


def _hand_over(payment: Payment, customer: Customer, delivery: Delivery) -> None:
    item = payment.items[delivery.item]
    if payment.test and item["kind"] == "group":
        content = Content(texts.delivered_test_group(payment.offer_name))
        delivery.state, delivery.note = DeliveryState.SKIPPED, "venda de teste não dá acesso a grupo"
        timeline.add(payment.seller_id, payment.id, "delivery_skipped", item=delivery.item, why=delivery.note)
        messages.put(customer, content, payment.trace_id, payment.test, payment_id=None)
        return
    content = _content(payment, item, delivery)
    messages.put(customer, content, payment.trace_id, payment.test, payment_id=payment.id, delivery_id=delivery.id)
    delivery.state = DeliveryState.BLOCKED if customer.blocked_at else DeliveryState.QUEUED
    if item["kind"] == "group":
        access.grant(payment, delivery, int(item["chat_id"]), item.get("days"))


def _content(payment: Payment, item: Mapping[str, Any], delivery: Delivery) -> Content:
    if item["kind"] == "link":
        text = texts.delivered_link(payment.offer_name, item["url"])
        return Content(text, (Button(texts.OPEN, url=item["url"]),))
    link = vault().open(delivery.invite_sealed or b"", PURPOSE, delivery.seller_id)
    text = texts.delivered_group(payment.offer_name, item.get("days"))
    return Content(text, (Button(texts.ENTER, url=link),))
