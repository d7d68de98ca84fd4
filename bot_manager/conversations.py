"""Conversations: each chat's inbox drained in order, one event a transaction, through the funnel engine."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

import gateways
from bot_manager import log, messages, sales
from bot_manager.addresses import privacy_url
from bot_manager.bots import inbox
from bot_manager.bots.inbox import Chat, Entry
from bot_manager.channels import panel, telegram
from bot_manager.channels.base import Heard
from bot_manager.funnels import engine
from bot_manager.funnels.default import FUNNEL
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue
from bot_manager.payments import charges, payers
from bot_manager.security.vault import new_secret
from models import Bot, BotState, Customer, Gateway, Payment, PaymentStatus, Seller, db
from tracking.clicks import save_tracking_token

logger = logging.getLogger(__name__)

_READERS = {telegram.CHANNEL: telegram.read, panel.CHANNEL: panel.read}


def hear(
    bot: Bot, channel: str, chat_id: str, event_key: str, body: dict[str, Any], *, update_id: int | None = None
) -> None:
    """Keeps something that a customer did and has the conversation go on; the caller commits."""
    inbox.put(Chat(bot.seller_id, bot.id, channel, chat_id), event_key, body, update_id)


def converse(bot: int, channel: str, chat: str, *, count_first: bool = False) -> None:
    """Handles all that is new in one chat. Raises what a handler raises, after counting it against the event.

    count_first: a try is counted before it is made, since the event may end the process that handles it.
    """
    address = Chat(db.session.get_one(Bot, bot).seller_id, bot, channel, chat)
    going = True
    while going:
        if count_first:
            _count_try(address)
        going = _handle_next(address)


def _count_try(chat: Chat) -> None:
    _customer(chat)
    entry = inbox.next_entry(chat)
    if entry and inbox.failed(entry, "under way when its process ended"):
        logger.error("an event is given up: it ends the process that handles it", extra={"inbox": entry.id})
    db.session.commit()


def _handle_next(chat: Chat) -> bool:
    """One event, one transaction, under the lock of the customer's row."""
    customer = _customer(chat)
    entry = inbox.next_entry(chat)
    if entry is None:
        db.session.commit()
        return False
    try:
        _react(customer, entry)
        inbox.done(entry)
        db.session.commit()
    except Exception as error:  # noqa: BLE001  (raised again, or given up and logged)
        _count_failure(entry, error)
    return True


def _count_failure(entry: Entry, error: Exception) -> None:
    """Raises the error again for another try, until the event has failed too often and the chat goes on without it."""
    db.session.rollback()
    dead = inbox.failed(entry, log.told(error))
    db.session.commit()
    if not dead:
        raise error
    logger.error("an event is given up", exc_info=error, extra={"inbox": entry.id})


def _customer(chat: Chat) -> Customer:
    where = {"bot_id": chat.bot_id, "channel": chat.channel, "chat_id": chat.chat_id}
    # Updating nothing but the key would still lock against the foreign keys of payments: this lock does not.
    wanted = select(Customer).filter_by(**where).with_for_update(key_share=True)
    if found := db.session.scalar(wanted):
        return found
    new = {**where, "seller_id": chat.seller_id, "external_id": new_secret()}
    db.session.execute(insert(Customer).values(new).on_conflict_do_nothing())
    return db.session.scalars(wanted).one()


def _react(customer: Customer, entry: Entry) -> None:
    bot = db.session.get_one(Bot, customer.bot_id)
    if bot.archived_at or bot.state == BotState.ARCHIVED:
        return
    if entry.event_key.startswith("sale:"):
        event = _sale_event(entry.body)
    else:
        heard = _READERS[customer.channel](entry.body)
        _note_person(customer, heard, entry.trace_id)
        event = _event(customer, heard)
    if event is not None:
        _take_step(bot, customer, event, entry)


def _note_person(customer: Customer, heard: Heard, trace: str) -> None:
    if heard.profile:
        payers.meet(customer, heard.profile)
    if heard.tap_id:
        args = {"bot": customer.bot_id, "tap": heard.tap_id}
        enqueue(Job(Name.ANSWER_TAP, customer.seller_id, trace, args, share=f"bot:{customer.bot_id}"))
    if heard.kind == "blocked":
        customer.blocked_at = datetime.now(UTC)
    elif heard.kind == "asks_in":
        args = {"customer": customer.id, "group": heard.text}
        enqueue(Job(Name.ADMIT, customer.seller_id, trace, args))
    elif customer.blocked_at:
        messages.came_back(customer, trace)


def _event(customer: Customer, heard: Heard) -> engine.Event | None:
    match heard.kind:
        case "start":
            if heard.text:
                save_tracking_token(customer, heard.text)
            return engine.Started((heard.profile or {}).get("first_name", ""))
        case "text":
            return engine.Said(heard.text)
        case "tap":
            return engine.Tapped(heard.text)
    return None


def _sale_event(body: dict[str, Any]) -> engine.Event | None:
    payment = db.session.get_one(Payment, int(body["payment"]))
    match body["sale"]:
        case "pix_ready":
            return _pix_ready(payment) if payment.status == PaymentStatus.PENDING else None
        case "pix_failed":
            return engine.PixFailed(payment.offer_name) if payment.status == PaymentStatus.FAILED else None
        case "checked":
            return engine.Checked(payment.payment_id, str(body["status"]))
    return None


def _pix_ready(payment: Payment) -> engine.PixReady:
    gateway = db.session.get_one(Gateway, payment.gateway_id)
    left = payment.expires_at - datetime.now(UTC)
    return engine.PixReady(
        payment_id=payment.payment_id,
        offer_name=payment.offer_name,
        amount_cents=payment.amount_cents,
        code=payment.pix_code or "",
        minutes=max(1, round(left.total_seconds() / 60)),
        notice=gateways.get(gateway.kind).buyer_notice,
    )


def _take_step(bot: Bot, customer: Customer, event: engine.Event, entry: Entry) -> None:
    state, effects = engine.step(bot.funnel or FUNNEL, customer.state, event, _shop(bot))
    customer.state = dict(state)
    spoke = [_carry_out(effect, bot, customer, entry) for effect in effects]
    if any(spoke):
        messages.have_sent(customer, entry.trace_id)


def _shop(bot: Bot) -> engine.Shop:
    seller = db.session.get_one(Seller, bot.seller_id)
    offers = [engine.Offer(o.key, o.name, o.price_cents) for o in bot.offers if o.archived_at is None]
    return engine.Shop(seller.name, offers, seller.terms_url, privacy_url(bot.public_id), seller.support)


def _carry_out(effect: engine.Effect, bot: Bot, customer: Customer, entry: Entry) -> bool:
    """True when something is to be sent."""
    match effect:
        case engine.Say(content, payment_id):
            payment = _payment(customer, payment_id) if payment_id else None
            test = bot.test or customer.channel == panel.CHANNEL
            messages.put(customer, content, entry.trace_id, test, payment_id=payment.id if payment else None)
            return True
        case engine.Buy(offer_key):
            return _buy(bot, customer, offer_key, entry)
        case engine.Check(payment_id):
            return _check(bot, customer, payment_id, entry)
        case engine.Learn(field, value):
            payers.learn(customer, field, value)
            return False


def _buy(bot: Bot, customer: Customer, offer_key: str, entry: Entry) -> bool:
    offer = next(o for o in bot.offers if o.key == offer_key)
    test = bot.test or customer.channel == panel.CHANNEL
    missing = payers.to_be_asked(customer, offer.price_cents, test=test)
    if missing and not sales.live_sale(customer, offer):
        _take_step(bot, customer, engine.Lacks(offer_key, missing), entry)
        return False
    payment = sales.open_sale(bot, customer, offer, entry.trace_id)
    if payment.status != PaymentStatus.PENDING:
        return False  # its code comes as an event of its own
    _take_step(bot, customer, _pix_ready(payment), entry)
    return False


def _check(bot: Bot, customer: Customer, payment_id: str, entry: Entry) -> bool:
    payment = _payment(customer, payment_id)
    if payment is None:
        return False
    if payment.status in sales.FINAL:
        _take_step(bot, customer, engine.Checked(payment_id, payment.status), entry)
    elif sales.may_ask(payment.id):
        charges.ask_for(payment, f"{payment.id}:{entry.id}")
    else:
        _take_step(bot, customer, engine.Checked(payment_id, "too_soon"), entry)
    return False


def _payment(customer: Customer, payment_id: str) -> Payment | None:
    """A tap's data is the customer's to choose: only their own payments are theirs."""
    theirs = Payment.customer_id == customer.id, Payment.payment_id == payment_id
    return db.session.scalar(select(Payment).where(*theirs))
