"""The test chat: a seller talks to their own bot in the browser, buys, approves the sandbox payment.

A channel like the others. What the person does goes through `conversations.hear`, what the bot says is read from
Message rows; nothing here knows what a funnel is.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from io import BytesIO

import nh3
import segno
from flask import Blueprint, Response, abort, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_security import current_user
from markupsafe import Markup
from sqlalchemy import select

from bot_manager import conversations, sales
from bot_manager.app import vault
from bot_manager.channels.base import Button, Content
from bot_manager.channels.panel import CHANNEL
from bot_manager.messages import content_of
from bot_manager.security.vault import CannotOpen
from models import (
    Bot,
    Customer,
    Delivery,
    DeliveryState,
    Inbox,
    InboxState,
    Message,
    MessageState,
    Payment,
    PaymentStatus,
    db,
)
from web.panel.format import web_address
from web.panel.lookup import find

room = Blueprint("chat", __name__)

SHOWN = 60  # messages and words, the newest
MOST_TEXT = 4096
BUSY_S, IDLE_S = 1, 4
SLOW = timedelta(seconds=12)  # then we say who should have answered
_KEY = "panel:"  # how the inbox tells a person's words from our own events

_TAGS = {"b", "strong", "i", "em", "u", "s", "code", "pre", "a", "tg-spoiler"}
_ON_ITS_WAY = (MessageState.QUEUED, MessageState.SENDING)
_TO_COME = (DeliveryState.WAITING, DeliveryState.QUEUED)


@dataclass(frozen=True, slots=True)
class Line:
    """One bubble. key: stays the same while the chat grows; mine: the person's own words; state: of the row behind."""

    key: str
    at: datetime
    mine: bool
    text: Markup
    state: str
    message: Message | None = None
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class Tap:
    """A button of a message; value carries the event's key, so that a double click is one tap."""

    label: str
    value: str | None = None
    url: str | None = None
    copy: str | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """busy: something is on its way. slow: and it should have come. open: what waits to be approved.

    delivered: whether all that `paid`, the last paid sale, sold has arrived.
    """

    lines: list[Line]
    turn: int
    busy: bool
    slow: bool
    open: Payment | None
    paid: Payment | None
    delivered: bool


@room.get("/conversa")
def first() -> ResponseReturnValue:
    """The chat with a test bot, or with the first one there is."""
    bots = select(Bot.id).where(Bot.archived_at.is_(None)).order_by(Bot.test.desc(), Bot.id)
    bot_id = db.session.scalar(bots.limit(1))
    if bot_id is None:
        return redirect(url_for("shop.bots.index"))
    return redirect(url_for("shop.chat.show", bot_id=bot_id))


@room.get("/bots/<int:bot_id>/conversa")
def show(bot_id: int) -> ResponseReturnValue:
    bot = find(Bot, bot_id)
    return _screen(bot) if "HX-Request" not in request.headers else _changes(bot)


@room.post("/bots/<int:bot_id>/conversa")
def say(bot_id: int) -> ResponseReturnValue:
    """`start`: the event's key; `tap`: its key, a space, the button's data; or words: `event_key` and `text`."""
    bot, said = find(Bot, bot_id), request.form
    text = said.get("text", "").replace("\0", "").strip()[:MOST_TEXT]
    if "tap" in said:
        key, _, data = said["tap"].partition(" ")
        _hear(bot, key, "tap", data)
    elif "start" in said:
        _hear(bot, said["start"], "start")
    elif text.split(" ")[0] == "/start":
        _hear(bot, said.get("event_key", ""), "start", text[7:])
    elif text:
        _hear(bot, said.get("event_key", ""), "text", text)
    return _answer(bot)


@room.post("/bots/<int:bot_id>/conversa/aprovar")
def approve(bot_id: int) -> ResponseReturnValue:
    """Does what the bank's notice would do, for a sandbox PIX of this chat."""
    bot = find(Bot, bot_id)
    mine = Payment.payment_id == request.form.get("payment", "").replace("\0", ""), Payment.bot_id == bot.id
    payment = db.session.scalar(select(Payment).where(*mine)) or abort(404)
    try:
        sales.approve_test_sale(payment)
    except sales.NotATestSale:
        abort(409, "Este PIX não é de teste, ou ainda não foi gerado.")
    db.session.commit()
    return _answer(bot)


@room.get("/bots/<int:bot_id>/conversa/<int:message_id>.svg")
def qr(bot_id: int, message_id: int) -> ResponseReturnValue:
    message = find(Message, message_id)
    customer = _customer(find(Bot, bot_id))
    if customer is None or message.customer_id != customer.id:
        abort(404)
    code = content_of(message).qr or abort(404)
    drawing = BytesIO()
    segno.make_qr(code).save(drawing, "svg", omitsize=True, svgclass=None, lineclass=None, border=2)
    return Response(drawing.getvalue(), mimetype="image/svg+xml", headers={"Cache-Control": "private, max-age=3600"})


def _hear(bot: Bot, key: str, kind: str, text: str = "") -> None:
    try:
        event_key = f"{_KEY}{uuid.UUID(key)}"
    except ValueError:
        abort(400)
    conversations.hear(bot, CHANNEL, chat_id(), event_key, {"kind": kind, "text": text})
    db.session.commit()


def chat_id() -> str:
    """Each user talks for themselves: two people testing at once do not meet."""
    return f"user-{current_user.id}"


def _answer(bot: Bot) -> ResponseReturnValue:
    if "HX-Request" not in request.headers:
        return redirect(url_for("shop.chat.show", bot_id=bot.id), 303)
    return _fragment(bot)[0]


def _changes(bot: Bot) -> ResponseReturnValue:
    html, version = _fragment(bot)
    return ("", 204) if request.args.get("v") == version else html


def _screen(bot: Bot) -> str:
    html, _ = _fragment(bot)
    return render_template("panel/chat.html", bot=bot, fragment=Markup(html), fresh_key=uuid.uuid4())  # noqa: S704


def _fragment(bot: Bot) -> tuple[str, str]:
    """What is asked for again and again, and its version; it holds nothing that changes by itself."""
    chat = _chat(bot)
    values = {"bot": bot, "chat": chat, "taps": _taps, "event_key": event_key, "every": BUSY_S if chat.busy else IDLE_S}
    version = hashlib.sha256(render_template("panel/_chat.html", version="", **values).encode()).hexdigest()[:16]
    return render_template("panel/_chat.html", version=version, **values), version


def _chat(bot: Bot) -> Chat:
    customer = _customer(bot)
    words = _words(bot)
    messages = _messages(customer) if customer else []
    payments = _payments(customer) if customer else []
    waiting = [row.received_at for row in words if row.state == InboxState.NEW]
    waiting += [message.created_at for message in messages if message.state in _ON_ITS_WAY]
    waiting += [payment.created_at for payment in payments if payment.status == PaymentStatus.NEW]
    paid = next((payment for payment in payments if payment.status == PaymentStatus.PAID), None)
    deliveries = _deliveries(paid) if paid else []
    waiting += [row.created_at for row in deliveries if row.state in _TO_COME]
    waiting += [paid.paid_at or paid.created_at] if paid and not deliveries else []
    labels = _labels(messages)
    lines = [_own(row, labels) for row in words] + [_said(row) for row in messages if row.state not in _ON_ITS_WAY]
    return Chat(
        lines=sorted(lines, key=lambda line: line.at)[-SHOWN:],
        turn=max((row.id for row in words), default=0),
        busy=bool(waiting),
        slow=bool(waiting) and min(waiting) < datetime.now(UTC) - SLOW,
        open=next((payment for payment in payments if payment.status == PaymentStatus.PENDING and payment.test), None),
        paid=paid,
        delivered=bool(deliveries) and all(row.state == DeliveryState.DELIVERED for row in deliveries),
    )


def _customer(bot: Bot) -> Customer | None:
    mine = Customer.bot_id == bot.id, Customer.channel == CHANNEL, Customer.chat_id == chat_id()
    return db.session.scalar(select(Customer).where(*mine))


def _words(bot: Bot) -> list[Inbox]:
    mine = Inbox.bot_id == bot.id, Inbox.channel == CHANNEL, Inbox.chat_id == chat_id()
    newest = select(Inbox).where(*mine, Inbox.event_key.startswith(_KEY)).order_by(Inbox.id.desc())
    return list(db.session.scalars(newest.limit(SHOWN)))


def _messages(customer: Customer) -> list[Message]:
    newest = select(Message).where(Message.customer_id == customer.id).order_by(Message.position.desc())
    return list(db.session.scalars(newest.limit(SHOWN)))


def _payments(customer: Customer) -> list[Payment]:
    newest = select(Payment).where(Payment.customer_id == customer.id).order_by(Payment.id.desc())
    return list(db.session.scalars(newest.limit(5)))


def _deliveries(payment: Payment) -> list[Delivery]:
    return list(db.session.scalars(select(Delivery).where(Delivery.payment_id == payment.id)))


def _own(row: Inbox, labels: dict[str, str]) -> Line:
    try:
        body = vault().open_json(row.body_sealed, "inbox.body", row.seller_id)
    except CannotOpen:
        body = {}
    kind, text = body.get("kind", ""), str(body.get("text", ""))
    shown = {"start": "/start", "tap": labels.get(text, "Toque em um botão")}.get(kind, text)
    return Line(f"i{row.id}", row.received_at, True, Markup(escape(shown)), row.state)  # noqa: S704


def _said(message: Message) -> Line:
    content = content_of(message)
    return Line(f"m{message.id}", message.created_at, False, clean(content.text), message.state, message, content)


def clean(text: str) -> Markup:
    """The little HTML that messages may carry. We wrote it ourselves; it is checked all the same."""
    kept = nh3.clean(
        text,
        tags=_TAGS,
        attributes={"a": {"href"}},
        url_schemes={"https", "http", "tg"},
        link_rel="noopener noreferrer",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return Markup(kept)  # noqa: S704


def _labels(messages: list[Message]) -> dict[str, str]:
    """What the buttons were called, by what a tap on them sends."""
    buttons = [button for message in messages for button in content_of(message).buttons]
    return {button.data: button.label for button in buttons if button.data}


def _taps(line: Line, turn: int) -> list[Tap]:
    return (
        [_tap(button, line, number, turn) for number, button in enumerate(line.content.buttons)] if line.content else []
    )


def _tap(button: Button, line: Line, number: int, turn: int) -> Tap:
    if button.data is None:
        return Tap(button.label, url=button.url and web_address(button.url), copy=button.copy)
    return Tap(button.label, value=f"{event_key(turn, line.key, number)} {button.data}")


def event_key(turn: int, *what: int | str) -> uuid.UUID:
    """The same until something new is heard: a double click is one event, a later tap another."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{g.seller_id}:{chat_id()}:{turn}:{what}")
