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
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Row, bindparam, func, or_, select, text, update

from bot_manager import log, timeline
from bot_manager.app import Threads, vault
from bot_manager.channels.base import Ambiguous, Blocked, ChannelError, Content, Refused, SlowDown, TokenRefused
from bot_manager.funnels import texts
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, crowded, enqueue, rest, set_timer
from models import (
    Base,
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
PANEL = "panel"  # what is "sent" there is simply shown: no bounds, and no bot that could be refused
OPEN = (MessageState.QUEUED, MessageState.SENDING)
CLAIM = timedelta(seconds=20)  # longer than a send may take: a claim that old belongs to the dead
MOST_ATTEMPTS = 12
LONGEST_NAP_S = 2.0
LONGEST_REST_S = 300.0  # until a channel that is away is tried again

# Built once and on tables: every sale passes here, and the ORM's way to the same statements costs three times as much.
_message = Base.metadata.tables["message"]
_customer = Base.metadata.tables["customer"]
_bot = Base.metadata.tables["bot"]
_delivery = Base.metadata.tables["delivery"]
_PUT = text(
    "with chat as (update customer set last_position = last_position + 1 where id = :customer returning *)"
    " insert into message (seller_id, customer_id, position, body_sealed, trace_id, payment_id, delivery_id)"
    " select seller_id, id, last_position, :body, :trace, :payment_id, :delivery_id from chat"
)
# The message is locked before the customer, as those do who write down what became of it.
_FIRST = (
    select(
        *_message.c["id", "seller_id", "customer_id", "state", "claimed_at", "body_sealed"],
        *_customer.c["bot_id", "channel", "chat_id", "next_send_at"],
        _bot.c.token_sealed,
    )
    .join(_customer, _customer.c.id == _message.c.customer_id)
    .join(_bot, _bot.c.id == _customer.c.bot_id)
    .where(_message.c.customer_id == bindparam("customer"), _message.c.state.in_(OPEN))
    .where(_customer.c.blocked_at.is_(None))
    .where(or_(_bot.c.state.not_in((BotState.REFUSED, BotState.ARCHIVED)), _customer.c.channel == PANEL))
    .order_by(_message.c.position)
    .limit(1)
    .with_for_update(of=[_message, _customer], key_share=True)
)
Waiting: TypeAlias = Row[*tuple[Any, ...]]  # a row of _FIRST
_CLAIM = (
    update(_message)
    .where(_message.c.id == bindparam("row"))
    .values(
        state=MessageState.SENDING,
        claim=bindparam("mine"),
        claimed_at=func.clock_timestamp(),
        attempts=_message.c.attempts + 1,
    )
)
_SENT = (
    update(_message)
    .where(_message.c.id == bindparam("row"), _message.c.claim == bindparam("mine"))
    .where(_message.c.state == MessageState.SENDING)
    .values(state=MessageState.SENT, external_id=bindparam("known_as"), sent_at=func.clock_timestamp())
    .returning(_message.c.seller_id, _message.c.payment_id, _message.c.delivery_id)
)
_DELIVERED = (
    update(_delivery)
    .where(_delivery.c.id == bindparam("row"))
    .values(state=DeliveryState.DELIVERED, delivered_at=func.clock_timestamp())
    .returning(_delivery.c.item)
)

# Telegram's bounds for replies: about 30 a second for a bot, one a second for a chat, short bursts of each.
BOT_PACE, BOT_BURST = timedelta(seconds=1 / 30), timedelta(seconds=1)
BOT_REST_S = 0.25  # long enough for several places, short enough to use them all
CHAT_PACE, CHAT_BURST = timedelta(seconds=1), timedelta(seconds=3)
_PACE_BOT = (
    update(_bot)
    .where(_bot.c.id == bindparam("row"), _bot.c.next_send_at <= func.clock_timestamp() + BOT_BURST)
    .values(next_send_at=func.greatest(_bot.c.next_send_at, func.clock_timestamp()) + BOT_PACE)
    .returning(_bot.c.id)
)
_PACE_CHAT = (
    update(_customer)
    .where(_customer.c.id == bindparam("row"))
    .values(next_send_at=func.greatest(_customer.c.next_send_at, func.clock_timestamp()) + CHAT_PACE)
)


class Channel(Protocol):
    async def send(self, token: str, chat_id: str, content: Content) -> str:
        """Sends and answers the channel's id of the message. Raises ChannelError."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """All of a customer that it takes to write to them."""

    id: int
    seller_id: int
    bot_id: int


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
    """Nothing may be sent for so many seconds: in this chat, or by the whole bot where one is named."""

    seconds: float
    bot: int | None = None


# Queue ------------------------------------------------------------------------------------------------------------


def put(customer: Customer | Recipient, content: Content, trace: str, test: bool = False, **about: int | None) -> None:
    """Queues a message at the end of the chat, whose customer's row stays locked until the caller commits.

    about: payment_id and delivery_id, where the message is about one.
    """
    if test:
        content = Content(f"{texts.TEST}\n\n{content.text}", content.buttons, content.qr)
    body = vault().seal_json(content.as_json(), PURPOSE, customer.seller_id)
    values = {"customer": customer.id, "body": body, "trace": trace, "payment_id": None, "delivery_id": None}
    db.session.execute(_PUT, {**values, **about})


def content_of(message: Message | Waiting) -> Content:
    return Content.from_json(vault().open_json(message.body_sealed, PURPOSE, message.seller_id))


def have_sent(customer: Customer | Recipient, trace: str) -> None:
    """Has the chat's messages sent, after this transaction."""
    enqueue(send_job(customer.seller_id, customer.bot_id, customer.id, trace))


def send_job(seller_id: int, bot_id: int, customer_id: int, trace: str) -> Job:
    return Job(Name.SEND, seller_id, trace, {"customer": customer_id}, f"send:{customer_id}", share=_share(bot_id))


def _share(bot_id: int) -> str:
    """Not the bot's own: one that has to rest from sending still listens."""
    return f"send:{bot_id}"


# Send -------------------------------------------------------------------------------------------------------------


async def send(threads: Threads, channels: Mapping[str, Channel], seller: int, customer: int) -> None:
    """Sends what waits in one chat, in order, until nothing does or the chat has to rest for long."""
    turn = await threads.run(seller, _turn, customer)
    while turn is not None:
        if isinstance(turn, Claimed):
            outcome = await _try(channels[turn.channel], turn)
            turn = await threads.run(seller, _turn, customer, turn, outcome)
        elif turn.bot:
            rest(_share(turn.bot), Name.SEND, turn.seconds)
            await threads.in_db(seller, _again, customer)
            return
        elif turn.seconds <= LONGEST_NAP_S and not crowded():
            await asyncio.sleep(turn.seconds)
            turn = await threads.run(seller, _turn, customer)
        else:
            await threads.in_db(seller, _later, customer, turn.seconds)
            return


async def _try(channel: Channel, mine: Claimed) -> str | ChannelError:
    """The channel's id of the message, or why it has none."""
    try:
        return await channel.send(mine.token, mine.chat_id, mine.content)
    except ChannelError as error:
        return error


def _turn(customer_id: int, last: Claimed | None = None, outcome: str | ChannelError = "") -> Claimed | Wait | None:
    """Writes down what became of the last message and, if the chat can go on, claims the next; one transaction."""
    found = _next(customer_id) if last is None or _goes_on(last, outcome) else None
    db.session.commit()
    # Opened after the commit: a message that does not open must not undo what was written about the one before it.
    return _opened(*found) if isinstance(found, tuple) else found


def _goes_on(last: Claimed, outcome: str | ChannelError) -> bool:
    if isinstance(outcome, str):
        _sent(last, outcome)
        return True
    goes_on = _not_sent(last, outcome)
    db.session.flush()
    return goes_on


def _next(customer_id: int) -> tuple[Waiting, str] | Wait | None:
    """Claims the first message of the chat that is not sent yet, if bot and chat may speak now."""
    first = db.session.execute(_FIRST, {"customer": customer_id}).one_or_none()
    if first is None:
        return None
    if first.state == MessageState.SENDING and (left := _claim_left(first)) > 0:
        return Wait(left)
    if first.channel != PANEL and (wait := _pace(first)):
        return wait
    mine = secrets.token_hex(8)
    db.session.execute(_CLAIM, {"row": first.id, "mine": mine})
    return first, mine


def _claim_left(message: Waiting) -> float:
    if message.claimed_at is None:
        return 0.0
    return float((message.claimed_at + CLAIM - datetime.now(UTC)).total_seconds())


def _pace(first: Waiting) -> Wait | None:
    """Takes a place in the chat's pace and in the bot's, or tells how long to wait; both live in rows of theirs.

    `next_send_at` is when a queue without any burst would be empty (the generic cell rate algorithm).
    """
    early = (first.next_send_at - datetime.now(UTC) - CHAT_BURST).total_seconds()
    if early > 0:
        return Wait(early)
    if db.session.execute(_PACE_BOT, {"row": first.bot_id}).first() is None:
        return Wait(BOT_REST_S, first.bot_id)
    db.session.execute(_PACE_CHAT, {"row": first.customer_id})
    return None


def _opened(first: Waiting, mine: str) -> Claimed:
    token = vault().open(first.token_sealed, "bot.token", first.seller_id) if first.token_sealed else ""
    return Claimed(first.id, mine, first.channel, token, first.chat_id, content_of(first))


# Outcomes ---------------------------------------------------------------------------------------------------------


def _sent(mine: Claimed, external_id: str) -> None:
    values = {"row": mine.message_id, "mine": mine.claim, "known_as": external_id}
    about = db.session.execute(_SENT, values).one_or_none()
    if about is None:
        return
    if about.delivery_id:
        item = db.session.execute(_DELIVERED, {"row": about.delivery_id}).scalar_one()
        timeline.add(about.seller_id, about.payment_id, "delivered", item=item)
    elif about.payment_id:
        timeline.add(about.seller_id, about.payment_id, "code_sent")


def _not_sent(mine: Claimed, error: ChannelError) -> bool:
    """Writes down why; True when the chat can go on with its next message."""
    message = _under_claim(mine)
    if message is None:
        return True
    message.state, message.last_error = MessageState.QUEUED, log.told(error)[:300]
    logger.warning("a message was not accepted", extra={"message_row": message.id, "why": type(error).__name__})
    if _is_final(message, error):
        return _fail(message)
    return _hold(message, db.session.get_one(Customer, message.customer_id), error)


def _is_final(message: Message, error: ChannelError) -> bool:
    """What was paid for is not given up because a channel is away; what may have arrived is not said for ever."""
    paid_for = message.delivery_id is not None and not isinstance(error, Ambiguous)
    return isinstance(error, Refused) or (message.attempts >= MOST_ATTEMPTS and not paid_for)


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
    _later(customer.id, min(LONGEST_REST_S, 2.0 ** min(message.attempts, 10)))
    return False


def _under_claim(mine: Claimed) -> Message | None:
    """The message, if this run's claim still holds."""
    claimed = select(Message).where(Message.id == mine.message_id, Message.claim == mine.claim).with_for_update()
    return db.session.scalar(claimed.where(Message.state == MessageState.SENDING))


def _fail(message: Message) -> bool:
    message.state = MessageState.FAILED
    if message.delivery_id:
        delivery = db.session.get_one(Delivery, message.delivery_id)
        delivery.state, delivery.note = DeliveryState.FAILED, message.last_error
        timeline.add(message.seller_id, delivery.payment_id, "delivery_failed", why=message.last_error)
    return True


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


def _again(customer_id: int) -> None:
    """To the end of the bot's line."""
    have_sent(db.session.get_one(Customer, customer_id), log.trace_id.get())


def _later(customer_id: int, seconds: float) -> None:
    customer = db.session.get_one(Customer, customer_id)
    set_timer(
        f"send:{customer_id}", send_job(customer.seller_id, customer.bot_id, customer_id, log.trace_id.get()), seconds
    )
