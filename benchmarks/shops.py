"""Shops with open sales, made by direct rows, and what the outside says about them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, cycle, islice
from typing import Any

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from benchmarks import load
from benchmarks.stage import Stage
from bot_manager import sellers
from bot_manager.addresses import get_webhook_url
from bot_manager.app import create_core, vault
from bot_manager.security import doors
from bot_manager.security.vault import new_secret
from models import (
    AttemptState,
    Base,
    Bot,
    BotOffer,
    BotState,
    ChargeAttempt,
    Click,
    Customer,
    Destination,
    DoorKind,
    Gateway,
    Link,
    Offer,
    Payment,
    PaymentStatus,
    ProviderKey,
    db,
)
from tests.world.bank import Charge
from tests.world.woovi_shapes import notice_body
from tests.world.woovi_signature import Keys

SHOPS = 50  # Telegram's 30 messages a second are a bot's: fewer would be the limit
CENTS = 4990
VISITOR = {"ip": "203.0.113.9", "user_agent": "Mozilla/5.0 (Android 14) Chrome/130 Mobile", "referrer": "",
           "fbp": None, "fbc": None}  # fmt: skip

_numbers = count(1)


@dataclass(frozen=True)
class Shop:
    """number: its bot's at Telegram. gateways, paths: id and where its notices go, by kind. visitor_sealed: what each
    of its clicks holds."""

    number: int
    seller_id: int
    bot_id: int
    offer_id: int
    link_id: int
    slug: str
    bot_path: str
    bot_secret: str
    gateways: dict[str, int]
    paths: dict[str, str]
    visitor_sealed: bytes


@dataclass(frozen=True)
class Sale:
    """A sale whose code was shown. reference: our token of it; chat_id: its customer's, who has no other sale."""

    shop: Shop
    number: int
    reference: str
    provider_id: str

    @property
    def chat_id(self) -> int:
        return 10**6 + self.number


class Market:
    """The shops of one database, each with a bot, an offer, a link, a pixel, and an account at both gateways."""

    def __init__(self, stage: Stage) -> None:
        self._owner = stage.owner
        self._keys = Keys()
        with create_core(stage.settings).app_context():
            self.shops = [_open_shop() for _ in range(SHOPS)]
            db.session.add(ProviderKey(kind="woovi", pem=self._keys.listed()[0]["key"]))
            db.session.commit()
            db.session.remove()
            db.engine.dispose()
        stage.run("delete from procrastinate_jobs")  # what opening them gave to do

    def alone(self, number: int = 0) -> Market:
        """One shop only."""
        smaller = copy(self)
        smaller.shops = [self.shops[number]]
        return smaller

    def sales(self, many: int, kind: str) -> list[Sale]:
        """So many new sales, spread over the shops, their code shown and not yet paid."""
        made = [
            Sale(shop, number, new_secret(), str(uuid.uuid4()))
            for shop, number in zip(islice(cycle(self.shops), many), _numbers, strict=False)
        ]
        with self._owner.begin() as connection:
            _insert(connection, Click, [_click(sale) for sale in made])
            customers = _insert(connection, Customer, [_customer(sale) for sale in made])
            payments = _insert(connection, Payment, list(map(_payment, made, customers)))
            _insert(connection, ChargeAttempt, [_attempt(s, p, kind) for s, p in zip(made, payments, strict=True)])
        return made

    def woovi_notices(self, many: int) -> list[bytes]:
        """Requests that tell, signed, that a sale is paid; one sale each."""
        return [self.woovi_notice(sale, sale.shop.paths["woovi"]) for sale in self.sales(many, "woovi")]

    def woovi_notice(self, sale: Sale, path: str) -> bytes:
        charge = Charge("", CENTS, "", sale.reference, id=sale.provider_id)
        charge.pay()
        body = json.dumps(notice_body(charge, "OPENPIX:CHARGE_COMPLETED", "PRODUCTION", {})).encode()
        headers = {"Content-Type": "application/json", "x-webhook-signature": self._keys.sign(body)}
        return load.request("POST", path, headers, body)

    def pushinpay_notices(self, many: int) -> list[bytes]:
        """Requests that hint, unsigned, that a sale is paid; one sale each."""
        return [
            load.post_json(f"{sale.shop.paths['pushinpay']}?t={sale.reference}", _hint(sale))
            for sale in self.sales(many, "pushinpay")
        ]

    def clicks(self, many: int) -> list[bytes]:
        headers = {"User-Agent": VISITOR["user_agent"], "Accept-Language": "pt-BR"}
        query = "utm_source=ig&utm_medium=cpc&utm_campaign=lancamento&fbclid=IwAR0b3nchm4rk"
        return [load.request("GET", f"/go/{shop.slug}?{query}", headers) for shop in islice(cycle(self.shops), many)]

    def starts(self, many: int) -> list[bytes]:
        """Requests by which Telegram pushes a /start, each from a known customer of its own."""
        return list(map(self.start, self.sales(many, "woovi")))

    def start(self, sale: Sale) -> bytes:
        """A request by which Telegram pushes the /start of a sale's customer."""
        return _start(sale)


def _open_shop() -> Shop:
    number = next(_numbers)
    seller = sellers.create(f"Loja {number}", f"dona{number}@example.com").seller_id
    bot, secret = _add_bot(seller, number)
    offer = Offer(seller_id=seller, key="curso", name="Curso", price_cents=CENTS, delivers=_things())
    link = Link(seller_id=seller, slug=f"promo{number}", bot_id=bot.id)
    db.session.add_all([offer, link, _pixel(seller, number)])
    db.session.flush()
    db.session.add(BotOffer(bot_id=bot.id, offer_id=offer.id, seller_id=seller, position=1))
    doors.put(DoorKind.LINK, link.slug, seller, link.id)
    accounts = {kind: _add_gateway(seller, kind) for kind in ("woovi", "pushinpay")}
    shop = Shop(
        number=100000 + number,
        seller_id=seller,
        bot_id=bot.id,
        offer_id=offer.id,
        link_id=link.id,
        slug=link.slug,
        bot_path=f"/tg/{bot.public_id}",
        bot_secret=secret,
        gateways={kind: account.id for kind, account in accounts.items()},
        paths={kind: "/" + get_webhook_url(account).split("/", 3)[3] for kind, account in accounts.items()},
        visitor_sealed=vault().seal_json(VISITOR, "click.visitor", seller),
    )
    db.session.commit()
    return shop


def _things() -> list[dict[str, str]]:
    return [{"kind": "link", "url": "https://example.com/curso"}]


def _add_bot(seller: int, number: int) -> tuple[Bot, str]:
    sealed = vault().seal(f"{100000 + number}:AAE-{number:031d}", "bot.token", seller)
    bot = Bot(seller_id=seller, key="vendas", public_id=new_secret(), token_sealed=sealed)
    bot.username, bot.name, bot.state = f"loja{number}_bot", f"Loja {number}", BotState.ACTIVE
    db.session.add(bot)
    db.session.flush()
    secret = doors.telegram_secret(bot.public_id)
    doors.put(DoorKind.BOT, bot.public_id, seller, bot.id, secret)
    return bot, secret


def _add_gateway(seller: int, kind: str) -> Gateway:
    gateway = Gateway(seller_id=seller, name=kind, kind=kind)
    sellers.add_gateway(gateway, {"pushinpay": {"token": "token"}, "woovi": {"app_id": "id"}}[kind])
    return gateway


def _pixel(seller: int, number: int) -> Destination:
    sealed = vault().seal("pixel-token", "destination.access_token", seller)
    pixel_id = str(5550000 + number)
    return Destination(seller_id=seller, name="pixel", kind="meta", pixel_id=pixel_id, access_token_sealed=sealed)


def _insert(connection: Connection, table: type[Base], rows: list[dict[str, Any]]) -> Iterator[int]:
    """The new rows' ids, in the rows' order."""
    statement = insert(table).returning(table.id, sort_by_parameter_order=True)  # type: ignore[attr-defined]
    return iter(connection.scalars(statement, rows).all())


def _click(sale: Sale) -> dict[str, Any]:
    shop = sale.shop
    known = {"seller_id": shop.seller_id, "link_id": shop.link_id, "tracking_token": sale.reference}
    return {**known, "params": {"utm_source": "ig"}, "visitor_sealed": shop.visitor_sealed}


def _customer(sale: Sale) -> dict[str, Any]:
    return {
        "seller_id": sale.shop.seller_id,
        "bot_id": sale.shop.bot_id,
        "channel": "telegram",
        "chat_id": str(sale.chat_id),
        "external_id": new_secret(),
        "tracking_token": sale.reference,
    }


def _payment(sale: Sale, customer: int) -> dict[str, Any]:
    return {
        "payment_id": f"BOT{sale.shop.bot_id}_{uuid.uuid4().hex}",
        "seller_id": sale.shop.seller_id,
        "bot_id": sale.shop.bot_id,
        "customer_id": customer,
        "offer_id": sale.shop.offer_id,
        "offer_name": "Curso",
        "items": _things(),
        "amount_cents": CENTS,
        "status": PaymentStatus.PENDING,
        "webhook_token": sale.reference,
        "tracking_token": sale.reference,
        "trace_id": uuid.uuid4().hex,
        "expires_at": datetime.now(UTC) + timedelta(hours=1),
    }


def _attempt(sale: Sale, payment: int, kind: str) -> dict[str, Any]:
    made = {"gateway_id": sale.shop.gateways[kind], "provider_id": sale.provider_id, "state": AttemptState.MADE}
    return {"seller_id": sale.shop.seller_id, "payment_id": payment, **made}


def _hint(sale: Sale) -> dict[str, Any]:
    return {
        "id": sale.provider_id.upper(),
        "value": CENTS,
        "status": "paid",
        "end_to_end_id": None,
        "payer_name": "COMPRADORA DE TESTE",
        "payer_national_registration": "11222333000181",
    }


def _start(sale: Sale) -> bytes:
    person = {"id": sale.chat_id, "first_name": "Ana", "language_code": "pt-br", "is_bot": False}
    message = {
        "message_id": 1,
        "date": int(time.time()),
        "chat": {"id": sale.chat_id, "type": "private", "first_name": "Ana"},
        "from": person,
        "text": "/start",
        "entities": [{"type": "bot_command", "offset": 0, "length": 6}],
    }
    headers = {"X-Telegram-Bot-Api-Secret-Token": sale.shop.bot_secret}
    return load.post_json(sale.shop.bot_path, {"update_id": sale.number, "message": message}, headers)
