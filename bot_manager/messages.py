"""Outgoing messages: rows in the order of the chat, drained one after the other within the limits of bot and chat.

A message is claimed before it is sent and its outcome is written under that claim, so that two runs never send it
twice. What was sent without an answer is sent again: a customer who paid would rather read it twice than never.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import func, select, update

from bot_manager import log, timeline
from bot_manager.app import Threads, vault
from bot_manager.channels.base import Ambiguous, Blocked, ChannelError, Content, Refused, SlowDown, TokenRefused
from bot_manager.funnels import texts
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue, set_timer
from models import (
    Bot,
    BotState,
    Customer,
    Delivery,
    DeliveryState,
    Message,
    MessageState,
    db,
)

logger = logging.getLogger(__name__)

PURPOSE = "message.body"  # customers are called by their names
OPEN = (MessageState.QUEUED, MessageState.SENDING)
CLAIM = timedelta(seconds=20)  # longer than a send may take: a claim that old belongs to the dead
MOST_ATTEMPTS = 12
LONGEST_NAP_S = 2.0

# Telegram's bounds for replies: about 30 a second for a bot, one a second for a chat, short bursts of each.
BOT_PACE, BOT_BURST = timedelta(seconds=1 / 30), timedelta(seconds=1)
CHAT_PACE, CHAT_BURST = timedelta(seconds=1), timedelta(seconds=3)


class Channel(Protocol):
    async def send(self, token: str, chat_id: str, content: Content) -> str:
        """Sends and answers the channel's id of the message. Raises ChannelError."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that is this run's to send."""

    message_id: int
    claim: str
    channel: str
    token: str
    chat_id: str
    content: Content


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may be sent for so many seconds."""

    seconds: float


# Queue ------------------------------------------------------------------------------------------------------------


def put(customer: Customer, content: Content, trace: str, test: bool = False, **about: int | None) -> Message:
    """Queues a message at the end of the chat; the caller holds the customer's row.

    about: payment_id and delivery_id, where the message is about one.
    """
    if test:
        content = Content(f"{texts.TEST}\n\n{content.text}", content.buttons, content.qr)
    customer.last_position += 1
    message = Message(
        seller_id=customer.seller_id,
        customer_id=customer.id,
        position=customer.last_position,
        body_sealed=vault().seal_json(content.as_json(), PURPOSE, customer.seller_id),
        trace_id=trace,
        **about,
    )
    db.session.add(message)
    return message


def content_of(message: Message) -> Content:
    return Content.from_json(vault().open_json(message.body_sealed, PURPOSE, message.seller_id))


def have_sent(customer: Customer, trace: str) -> None:
    """Has the chat's messages sent, after this transaction."""
    enqueue(send_job(customer.seller_id, customer.id, trace))


def send_job(seller_id: int, customer_id: int, trace: str) -> Job:
    return Job(Name.SEND, seller_id, trace, {"customer": customer_id}, lock=f"send:{customer_id}")


# Send -------------------------------------------------------------------------------------------------------------


async def send(threads: Threads, channels: Mapping[str, Channel], seller: int, customer: int) -> None:
    """Sends what waits in one chat, in order, until nothing does or the chat has to rest for long."""
    while True:
        turn = await threads.in_db(seller, _next, customer)
        if turn is None:
            return
        if isinstance(turn, Claimed):
            if not await _send_one(threads, channels, seller, turn):
                return
        elif turn.seconds <= LONGEST_NAP_S:
            await asyncio.sleep(turn.seconds)
        else:
            await threads.in_db(seller, _later, customer, turn.seconds)
            return


async def _send_one(threads: Threads, channels: Mapping[str, Channel], seller: int, mine: Claimed) -> bool:
    """True when the chat can go on."""
    try:
        external_id = await channels[mine.channel].send(mine.token, mine.chat_id, mine.content)
    except ChannelError as error:
        return await threads.in_db(seller, _not_sent, mine, error)
    await threads.in_db(seller, _sent, mine, external_id)
    return True


def _next(customer_id: int) -> Claimed | Wait | None:
    """Claims the first message of the chat that is not sent yet, if bot and chat may speak now."""
    customer = db.session.get_one(Customer, customer_id, with_for_update={"key_share": True})
    first = db.session.scalar(_first(customer_id))
    if first is None or customer.blocked_at:
        return None
    bot = db.session.get_one(Bot, customer.bot_id)
    if bot.state in (BotState.REFUSED, BotState.ARCHIVED) and customer.channel != "panel":
        return None
    if first.state == MessageState.SENDING and (left := _claim_left(first)) > 0:
        return Wait(left)
    if customer.channel != "panel" and (wait := _pace(bot.id, customer)):
        return wait
    return _claim(bot, customer, first)


def _first(customer_id: int) -> Any:
    waiting = Message.customer_id == customer_id, Message.state.in_(OPEN)
    return select(Message).where(*waiting).order_by(Message.position).limit(1).with_for_update()


def _claim_left(message: Message) -> float:
    if message.claimed_at is None:
        return 0.0
    return (message.claimed_at + CLAIM - datetime.now(UTC)).total_seconds()


def _pace(bot_id: int, customer: Customer) -> Wait | None:
    """Takes a place in the chat's pace and in the bot's, or tells how long to wait; both live in rows of theirs.

    `next_send_at` is when a queue without any burst would be empty (the generic cell rate algorithm).
    """
    now = datetime.now(UTC)
    if customer.next_send_at > now + CHAT_BURST:
        return Wait((customer.next_send_at - now - CHAT_BURST).total_seconds())
    took = (
        update(Bot)
        .where(Bot.id == bot_id, Bot.next_send_at <= func.clock_timestamp() + BOT_BURST)
        .values(next_send_at=func.greatest(Bot.next_send_at, func.clock_timestamp()) + BOT_PACE)
        .returning(Bot.id)
        .execution_options(synchronize_session=False)
    )
    if db.session.execute(took).first() is None:
        return Wait(BOT_PACE.total_seconds() * secrets.randbelow(8) + 0.05)
    customer.next_send_at = max(customer.next_send_at, now) + CHAT_PACE
    return None


def _claim(bot: Bot, customer: Customer, message: Message) -> Claimed:
    message.state, message.claim = MessageState.SENDING, secrets.token_hex(8)
    message.claimed_at = datetime.now(UTC)
    message.attempts += 1
    token = vault().open(bot.token_sealed, "bot.token", bot.seller_id) if bot.token_sealed else ""
    return Claimed(message.id, message.claim, customer.channel, token, customer.chat_id, content_of(message))


# Outcomes ---------------------------------------------------------------------------------------------------------


def _sent(mine: Claimed, external_id: str) -> None:
    message = _under_claim(mine)
    if message is None:
        return
    message.state, message.external_id, message.sent_at = MessageState.SENT, external_id, datetime.now(UTC)
    if message.delivery_id:
        _delivered(message)
    else:
        _on_timeline(message, "code_sent")


def _not_sent(mine: Claimed, error: ChannelError) -> bool:
    """Writes down why; True when the chat can go on with its next message."""
    message = _under_claim(mine)
    if message is None:
        return True
    message.state, message.last_error = MessageState.QUEUED, f"{type(error).__name__}: {error}"[:300]
    logger.warning("a message was not accepted", extra={"message_row": message.id, "why": type(error).__name__})
    if isinstance(error, Refused) or message.attempts >= MOST_ATTEMPTS:
        return _fail(message)
    return _hold(message, db.session.get_one(Customer, message.customer_id), error)


def _hold(message: Message, customer: Customer, error: ChannelError) -> bool:
    match error:
        case Blocked():
            return _block(customer, str(error))
        case TokenRefused():
            return _doubt_token(customer, message)
        case SlowDown(retry_after=seconds):
            return _slow_down(customer, seconds)
        case Ambiguous():
            return True
    _later(customer.id, min(60.0, 2.0**message.attempts))
    return False


def _under_claim(mine: Claimed) -> Message | None:
    """The message, if this run's claim still holds."""
    claimed = select(Message).where(Message.id == mine.message_id, Message.claim == mine.claim).with_for_update()
    return db.session.scalar(claimed.where(Message.state == MessageState.SENDING))


def _delivered(message: Message) -> None:
    delivery = db.session.get_one(Delivery, message.delivery_id)
    delivery.state, delivery.delivered_at = DeliveryState.DELIVERED, message.sent_at
    _on_timeline(message, "delivered", item=delivery.item)


def _fail(message: Message) -> bool:
    message.state = MessageState.FAILED
    if message.delivery_id:
        delivery = db.session.get_one(Delivery, message.delivery_id)
        delivery.state, delivery.note = DeliveryState.FAILED, message.last_error
        _on_timeline(message, "delivery_failed", why=message.last_error)
    return True


def _on_timeline(message: Message, kind: str, **data: Any) -> None:
    if message.payment_id:
        timeline.add(message.seller_id, message.payment_id, kind, **data)


def _block(customer: Customer, why: str) -> bool:
    """The customer is gone: nothing more is sent, and what they paid for waits for their return."""
    customer.blocked_at = datetime.now(UTC)
    waiting = Message.customer_id == customer.id, Message.state.in_(OPEN)
    ids = select(Message.delivery_id).where(*waiting, Message.delivery_id.is_not(None))
    blocked = update(Delivery).where(Delivery.id.in_(ids)).values(state=DeliveryState.BLOCKED, note=why[:300])
    db.session.execute(blocked.execution_options(synchronize_session=False))
    db.session.execute(
        update(Message)
        .where(*waiting)
        .values(state=MessageState.BLOCKED)
        .execution_options(synchronize_session="fetch")
    )
    return False


def came_back(customer: Customer, trace: str) -> None:
    """A customer who had blocked the bot is heard again: what they paid for goes out, and nothing else."""
    customer.blocked_at = None
    theirs = Message.customer_id == customer.id, Message.state == MessageState.BLOCKED
    wanted = db.session.scalars(select(Message).where(*theirs, Message.delivery_id.is_not(None)))
    for message in wanted:
        message.state = MessageState.QUEUED
        db.session.get_one(Delivery, message.delivery_id).state = DeliveryState.QUEUED
    have_sent(customer, trace)


def _doubt_token(customer: Customer, message: Message) -> bool:
    """One refusal may be a passing fault: the connection is checked, and the message stays where it is."""
    message.attempts -= 1
    job = Job(Name.CONNECT_BOT, customer.seller_id, log.trace_id.get(), {"bot": customer.bot_id})
    set_timer(f"connect:{customer.bot_id}", job, 2)
    _later(customer.id, 30)
    return False


def _slow_down(customer: Customer, seconds: float) -> bool:
    # Which of the two was too fast is not said: the chat waits as long as told, the bot for a moment.
    now = datetime.now(UTC)
    customer.next_send_at = now + timedelta(seconds=seconds) + CHAT_BURST
    db.session.get_one(Bot, customer.bot_id).next_send_at = now + timedelta(seconds=min(seconds, 1)) + BOT_BURST
    return True


def _later(customer_id: int, seconds: float) -> None:
    customer = db.session.get_one(Customer, customer_id)
    set_timer(f"send:{customer_id}", send_job(customer.seller_id, customer_id, log.trace_id.get()), seconds)
