"""A panel with people in it, and a core small enough to stand in for the real one.

The cast: ana owns a shop, bia is on her staff, caio owns another shop and must see nothing of hers, olga operates.
"""

from __future__ import annotations

import itertools
import random
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import delete, select
from werkzeug.test import TestResponse

from bot_manager import sellers
from bot_manager.app import context, vault
from bot_manager.payments import ledger
from bot_manager.security import logins
from bot_manager.security.vault import new_secret
from bot_manager.settings import Settings
from bot_manager.shop import example
from models import (
    Allowance,
    Bot,
    BotOffer,
    BotState,
    ChargeAttempt,
    Click,
    Conversion,
    Customer,
    Decision,
    Delivery,
    Destination,
    Gateway,
    Inbox,
    Link,
    Membership,
    Message,
    Offer,
    Payment,
    PaymentEvent,
    PaymentStatus,
    Role,
    User,
    WebhookReceipt,
    db,
)
from web import create_app

PASSWORD = "uma frase curta e boa"
PIX_CODE = (
    "00020101021226850014br.gov.bcb.pix2563pix.example.com/qr/v2/0123456789abcdef0123456789abcdef520400005303986"
    "540549.905802BR5910LOJA TESTE6009SAO PAULO62070503***6304ABCD"
)
TOKEN = "a token that tests know"


# A core that answers at once, for tests of the panel alone ---------------------------------------------------------


class NotATestSale(ValueError):
    pass


def hear(  # noqa: PLR0917
    bot: Bot, channel: str, chat_id: str, event_key: str, body: dict[str, Any], update_id: int | None = None
) -> None:
    """Answers at once, in the same transaction, where the real one has workers do it."""
    where = {"seller_id": bot.seller_id, "bot_id": bot.id, "channel": channel, "chat_id": chat_id}
    if db.session.scalar(select(Inbox).filter_by(bot_id=bot.id, channel=channel, event_key=event_key)):
        return
    sealed = vault().seal_json(body, "inbox.body", bot.seller_id)
    db.session.add(
        Inbox(**where, event_key=event_key, update_id=update_id, body_sealed=sealed, state="done", trace_id="t")
    )
    db.session.flush()
    customer = _customer(bot, channel, chat_id)
    text = body["text"]
    if body["kind"] == "start":
        offers = [{"label": f"{offer.name} · R$\u00a049,90", "data": f"buy:{offer.id}"} for offer in bot.offers]
        _tell(
            customer,
            f"<b>TESTE</b> · nenhum valor é cobrado\n\nOlá! Bem-vindo à <b>{_shop_name(bot)}</b>.\n\nEscolha:",
            offers,
        )
    elif text.startswith("buy:"):
        _charge(bot, customer, db.session.get_one(Offer, int(text[4:])))
    else:
        _tell(customer, "Não entendi. Toque em um dos botões, por favor.")


def _shop_name(bot: Bot) -> str:
    return db.session.get_one(sellers.Seller, bot.seller_id).name


def _customer(bot: Bot, channel: str, chat_id: str) -> Customer:
    found = db.session.scalar(select(Customer).filter_by(bot_id=bot.id, channel=channel, chat_id=chat_id))
    return found or add(
        Customer(seller_id=bot.seller_id, bot_id=bot.id, channel=channel, chat_id=chat_id, external_id=new_secret())
    )


def _tell(customer: Customer, text: str, buttons: list[dict[str, str]] | None = None, qr: str | None = None) -> None:
    customer.last_position += 1
    body = {"text": text, "buttons": buttons or [], "qr": qr}
    message = Message(seller_id=customer.seller_id, customer_id=customer.id, position=customer.last_position)
    message.body_sealed = vault().seal_json(body, "message.body", customer.seller_id)
    message.state, message.trace_id, message.sent_at = "sent", "t", datetime.now(UTC)
    add(message)


def _charge(bot: Bot, customer: Customer, offer: Offer) -> None:
    live = select(Payment).filter_by(customer_id=customer.id, offer_id=offer.id, status="pending")
    if not db.session.scalar(live):
        gateway = db.session.scalars(select(Gateway).where(Gateway.own)).one()
        payment = sale(customer, offer, gateway, status="pending", test=True, at=datetime.now(UTC))
        assert payment
    buttons = [{"label": "Copiar código PIX", "copy": PIX_CODE}, {"label": "Já paguei", "data": "paid?"}]
    text = (
        f"<b>{offer.name}</b> · <b>R$\u00a049,90</b>\n\nPague com PIX. Vale por 30 minutos.\n\n<code>{PIX_CODE}</code>"
    )
    _tell(customer, text, buttons, PIX_CODE)


def approve(payment: Payment) -> None:
    if not payment.test:
        raise NotATestSale
    if payment.status == PaymentStatus.PAID:
        return
    settle(payment, datetime.now(UTC))
    customer = db.session.get_one(Customer, payment.customer_id)
    url = "https://example.com/curso"
    _tell(customer, f'Pagamento confirmado! Aqui está:\n\n<a href="{url}">{url}</a>', [{"label": "Abrir", "url": url}])


# Rows --------------------------------------------------------------------------------------------------------------


def add(row: Any) -> Any:
    db.session.add(row)
    db.session.flush()
    return row


def event(payment: Payment, kind: str, at: datetime, **data: Any) -> None:
    add(PaymentEvent(seller_id=payment.seller_id, payment_id=payment.id, kind=kind, data=data, at=at))


def sale(
    customer: Customer,
    offer: Offer,
    gateway: Gateway | None,
    status: str = "paid",
    at: datetime | None = None,
    *,
    test: bool = False,
    click: Click | None = None,
) -> Payment:
    """A sale as far as its status, with what each stage writes on the way."""
    at = at or datetime.now(UTC)
    payment = add(
        Payment(
            payment_id=f"BOT{customer.bot_id}_{uuid.uuid4().hex}",
            seller_id=customer.seller_id,
            bot_id=customer.bot_id,
            customer_id=customer.id,
            offer_id=offer.id,
            offer_name=offer.name,
            items=offer.delivers,
            amount_cents=offer.price_cents,
            test=test,
            status=status if status != "paid" else "pending",
            webhook_token=new_secret(),
            tracking_token=click.tracking_token if click else None,
            trace_id=uuid.uuid4().hex,
            gateway_id=gateway.id if gateway else None,
            pix_code=PIX_CODE if gateway else None,
            expires_at=at + timedelta(minutes=30),
            created_at=at,
        )
    )
    event(payment, "opened", at, offer=offer.key, amount_cents=offer.price_cents)
    if gateway:
        attempt = ChargeAttempt(
            seller_id=payment.seller_id, payment_id=payment.id, gateway_id=gateway.id, started_at=at
        )
        attempt.provider_id, attempt.state = uuid.uuid4().hex, "made"
        add(attempt)
        event(payment, "charged", at + timedelta(seconds=1), gateway=gateway.id)
    if status == "paid":
        settle(payment, at + timedelta(minutes=2))
    if status in ("expired", "failed", "refunded"):
        event(payment, status, at + timedelta(minutes=30))
    return payment


def settle(payment: Payment, at: datetime) -> None:
    payment.status, payment.paid_at = PaymentStatus.PAID, at
    event(payment, "paid", at, gateway=payment.gateway_id)
    attempt = db.session.query(ChargeAttempt).filter_by(payment_id=payment.id).first()
    if attempt is not None and not payment.test:
        ledger.book_sale(attempt.id, payment.amount_cents, at, None)
    delivery = Delivery(seller_id=payment.seller_id, payment_id=payment.id, item=0, state="delivered", created_at=at)
    delivery.delivered_at = at + timedelta(seconds=1)
    add(delivery)


def notice(payment: Payment, gateway: Gateway, at: datetime, state: str = "settled") -> None:
    sealed = vault().seal_json({}, "webhook_receipt.body", payment.seller_id)
    add(
        WebhookReceipt(
            seller_id=payment.seller_id,
            gateway_id=gateway.id,
            digest=uuid.uuid4().hex * 2,
            body_sealed=sealed,
            headers={},
            authenticity="signed",
            state=state,
            payment_id=payment.id,
            trace_id="t",
            received_at=at,
        )
    )


def customer(bot: Bot, first_name: str, last_name: str = "", at: datetime | None = None) -> Customer:
    told = {"first_name": first_name, "last_name": last_name}
    sealed = vault().seal_json(told, "customer.profile", bot.seller_id)
    row = Customer(
        seller_id=bot.seller_id, bot_id=bot.id, channel="telegram", chat_id=new_secret(), external_id=new_secret()
    )
    row.profile_sealed, row.started_at = sealed, at or datetime.now(UTC)
    made: Customer = add(row)
    return made


# People and shops --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shop:
    id: int
    bot_id: int
    offer_id: int


@dataclass(frozen=True)
class Cast:
    """E-mails are users' names here; `shop` is ana's and bia's, `other` is caio's."""

    ana: str
    bia: str
    caio: str
    olga: str
    shop: Shop
    other: Shop


class World:
    def __init__(self, settings: Settings) -> None:
        self.app: Flask = create_app(settings)
        self.app.config["PROPAGATE_EXCEPTIONS"] = False
        self._hashed: str | None = None

    def close(self) -> None:
        with self.app.app_context():
            db.engine.dispose()

    def user(self, email: str, *roles: Role) -> int:
        """A user with PASSWORD, which is hashed once: argon2 is slow on purpose."""
        row = sellers.add_user(email, None if self._hashed else PASSWORD, *roles)
        self._hashed = row.password = self._hashed or row.password
        db.session.flush()
        return row.id

    @contextmanager
    def later(self, by: timedelta) -> Iterator[None]:
        """The application's clock stands ahead by so much."""
        before = self.app.extensions["clock"]
        self.app.extensions["clock"] = lambda: before() + by
        try:
            yield
        finally:
            self.app.extensions["clock"] = before

    def cast(self) -> Cast:
        names = {name: f"{name}-{uuid.uuid4().hex[:8]}@example.com" for name in ("ana", "bia", "caio", "olga")}
        with self.app.app_context():
            db.session.execute(delete(Allowance))  # all of them come from one address
            role = db.session.scalar(select(Role).filter_by(name="operator")) or add(Role(name="operator"))
            ids = {name: self.user(email, *([role] if name == "olga" else [])) for name, email in names.items()}
            db.session.commit()
        shop, other = self.shop("Clube da Receita", names["ana"]), self.shop("Loja do Caio", names["caio"])
        with self.app.app_context():
            add(Membership(user_id=ids["bia"], seller_id=shop.id, role="staff"))
            db.session.commit()
        return Cast(**names, shop=shop, other=other)

    def shop(self, name: str, owner: str) -> Shop:
        with self.app.app_context():
            user = db.session.scalars(select(User).filter_by(email=owner)).one()
            seller_id = sellers.create(name, f"{uuid.uuid4().hex}@example.com", owner=user).seller_id
            bot = example.add(seller_id)
            db.session.flush()
            offer_id = db.session.scalars(select(Offer.id)).one()
            db.session.commit()
            return Shop(seller_id, bot.id, offer_id)

    def acting(self, shop: Shop) -> Any:
        return context(self.app, shop.id)

    def client(self, email: str | None = None) -> Browser:
        browser = Browser(self.app, self.app.test_client())
        if email:
            browser.log_in(email)
        return browser


class Browser:
    """Flask's test client, logged in, that fills in the CSRF field and asks for pages as browsers do."""

    def __init__(self, app: Flask, client: FlaskClient) -> None:
        self.app, self.client = app, client
        self._plant()

    def _plant(self) -> None:
        """A form token that tests know; logging in makes a new one."""
        with self.client.session_transaction() as session:
            session["csrf_token"] = TOKEN

    def log_in(self, email: str) -> None:
        with self.app.app_context():
            user = db.session.scalars(select(User).filter_by(email=email)).one()
            who = {
                "_user_id": user.fs_uniquifier,
                "_fresh": True,
                "login": logins.begin(user.id, "Chrome", "127.0.0.1"),
            }
            db.session.commit()
        with self.client.session_transaction() as session:
            session.update(who)

    def get(self, path: str, htmx: bool = False, **options: Any) -> TestResponse:
        return _apart(self.client.get, path, headers=self._headers(htmx), **options)

    def post(self, path: str, data: dict[str, str] | None = None, htmx: bool = False, **options: Any) -> TestResponse:
        signed = URLSafeTimedSerializer(self.app.config["SECRET_KEY"], salt="wtf-csrf-token").dumps(TOKEN)
        form = {"csrf_token": signed, **(data or {})}
        self._plant()
        return _apart(self.client.post, path, data=form, headers=self._headers(htmx), **options)

    def _headers(self, htmx: bool) -> dict[str, str]:
        return {"Accept": "text/html"} | ({"HX-Request": "true"} if htmx else {})


def _apart(ask: Callable[..., TestResponse], *args: Any, **options: Any) -> TestResponse:
    """Without the test's own app context, whose `g` would remember who asked last."""
    return Context().run(ask, *args, **options)


def words(answer: TestResponse) -> str:
    """What a page says, without tags and with single spaces."""
    text = re.sub(r"<(script|style|title)\b.*?</\1>", " ", answer.text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).replace("\xa0", " ").split())


# A shop that has been selling --------------------------------------------------------------------------------------

_NAMES = [("Ana", "Prado"), ("Elaine", "Farias"), ("Gisele", "Amorim"), ("Carla", "Mendes"), ("Diego", "Rocha")]
_NAMES += [("João Vítor", "Albuquerque de Souza"), ("Bruna", ""), ("Rafael", "Teixeira"), ("Lívia", "Nunes")]


def fill(shop: Shop, now: datetime, a_day: int = 6) -> None:
    """Thirty days of sales by two real bots and two accounts; one bot refused, one account with an error."""
    chance = random.Random(7)
    seller = {"seller_id": shop.id}
    offers = [
        add(
            Offer(
                **seller,
                key=key,
                name=name,
                price_cents=cents,
                delivers=[{"kind": kind, "url": "https://example.com/x"}],
            )
        )
        for key, name, cents, kind in (
            ("mentoria", "Mentoria em grupo", 29700, "link"),
            ("ebook", "E-book Receitas de domingo", 1990, "link"),
            ("vip", "Grupo VIP mensal", 2990, "group"),
        )
    ]
    bots = [
        add(
            Bot(
                **seller,
                key="receitas",
                name="Receitas",
                username="receitas_do_dia_bot",
                public_id=new_secret(),
                state="active",
                last_update_at=now - timedelta(minutes=2),
            )
        ),
        add(
            Bot(
                **seller,
                key="vip",
                name="Clube VIP",
                username="clube_vip_receita_bot",
                public_id=new_secret(),
                state=BotState.REFUSED,
                state_note="Unauthorized",
                last_update_at=now - timedelta(hours=5),
            )
        ),
    ]
    for bot in bots:
        for position, offer in enumerate(offers):
            add(BotOffer(**seller, bot_id=bot.id, offer_id=offer.id, position=position))
    banks = []
    for name, kind, priority in (("principal", "pushinpay", 1), ("reserva", "woovi", 2)):
        gateway = Gateway(**seller, name=name, kind=kind, priority=priority)
        gateway.fee_fixed_cents = 35 if kind == "pushinpay" else None
        sellers.add_gateway(gateway, {})
        gateway.last_charge_at, gateway.last_notice_at = now - timedelta(minutes=1), now - timedelta(minutes=3)
        banks.append(gateway)
    banks[1].last_error, banks[1].last_error_at = "401: appID inválido", now - timedelta(hours=2)
    link = add(Link(**seller, slug=f"promo-{uuid.uuid4().hex[:6]}", bot_id=bots[0].id))
    pixel = add(Destination(**seller, name="pixel", kind="meta", pixel_id="1", access_token_sealed=b"x"))
    click = add(
        Click(
            **seller,
            link_id=link.id,
            tracking_token=new_secret(),
            params={"utm_source": "instagram", "utm_campaign": "receitas-novembro"},
            visitor_sealed=b"x",
            at=now - timedelta(minutes=9),
        )
    )
    turn = itertools.cycle(_NAMES)
    for back in range(29, -1, -1):
        for _ in range(chance.randint(1, a_day)):
            at = now - timedelta(days=back, minutes=chance.randint(40, 500))
            person = customer(chance.choice(bots), *next(turn), at=at - timedelta(minutes=3))
            status = chance.choice(["paid", "paid", "paid", "expired", "failed", "refunded"])
            sale(person, chance.choice(offers), chance.choice(banks) if status != "failed" else None, status, at)
    sale(customer(bots[0], "Gisele", "Amorim"), offers[0], banks[0], "pending", now - timedelta(seconds=30))
    person = customer(bots[0], "Ana", "Prado", at=now - timedelta(minutes=8))
    person.tracking_token = click.tracking_token
    star = sale(person, offers[0], banks[0], "paid", now - timedelta(minutes=6), click=click)
    notice(star, banks[0], now - timedelta(minutes=4, seconds=1))
    banks[1].failures, banks[1].openings, banks[1].open_until = 5, 1, now + timedelta(minutes=2)
    seen = {"priority": 1, "weight": 1}
    tired = {"gateway": banks[1].id, **seen, "verdict": "paused", "failures": 5, "open_until": now.isoformat()}
    order = {"turn": 0, "round": 1, "asks": [banks[0].id, banks[1].id]}
    fit = {"gateway": banks[0].id, **seen, "verdict": "fit"}
    add(Decision(**seller, payment_id=star.id, **order, candidates=[fit, tired], at=now - timedelta(minutes=7)))
    done = Conversion(
        **seller, destination_id=pixel.id, payment_id=star.id, event_name="Purchase", event_id="e", event_time=now
    )
    done.state, done.trace_id, done.ended_at = "delivered", "t", now - timedelta(minutes=3, seconds=50)
    add(done)
