"""Shops for tests: a seller with a bot, offers, gateways and a pixel, known to the fakes."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import requests
from sqlalchemy import select

from bot_manager import sales, sellers
from bot_manager.addresses import get_webhook_url
from bot_manager.app import vault
from bot_manager.bots import connections
from bot_manager.jobs.queue import enqueue
from bot_manager.payments import charges
from bot_manager.security import doors
from bot_manager.security.vault import fingerprint, new_secret
from models import Bot, BotOffer, Customer, Destination, DoorKind, Gateway, Link, Offer, db
from tests.line import Line
from tests.world.telegram.people import Person

_numbers = count(1)


@dataclass
class Shop:
    """What a test needs of a shop that was opened: ids and the names by which the fakes know it."""

    line: Line
    seller_id: int
    bot_id: int
    token: str
    public_id: str
    slug: str
    pixel_id: str
    gateways: dict[str, int] = field(default_factory=dict)

    def click(self, **query: str) -> str:
        """A visitor follows the ad's link: answers the tracking token."""
        agent = {"User-Agent": "Mozilla/5.0 (Android 14) Chrome/130 Mobile"}
        answer = requests.get(
            f"{self.line.url}/go/{self.slug}", params=query, headers=agent, allow_redirects=False, timeout=5
        )
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"].partition("?start=")[2]

    def visit(self, person: Person, token: str | None = None) -> None:
        """Somebody opens the chat, through the ad unless told otherwise, and the bot answers."""
        person.start(self.token, self.click() if token is None else token)
        self.line.work()

    def buy(self, person: Person) -> dict:
        """Visits and taps the offer; answers the payment, with its code shown if a gateway made one."""
        self.visit(person)
        person.tap(self.token, person.button(self.token, "Curso Completo"))
        self.line.work()
        return self.payments()[-1]

    def add_gateway(self, kind: str, name: str, priority: int = 1, weight: int = 1) -> int:
        """One more account, which the fake knows."""
        with self.line.seller(self.seller_id):
            gateway_id = _add_gateway(
                self.line, self.seller_id, kind, priority, next(_numbers), name=name, weight=weight
            )
            db.session.commit()
        self.gateways[name] = gateway_id
        return gateway_id

    def open_sales(self, many: int, price_cents: int = 4990, *, test: bool = False) -> list[int]:
        """New payments, each of a customer of its own, that wait to be charged."""
        with self.line.seller(self.seller_id):
            bot = db.session.get_one(Bot, self.bot_id)
            offer = db.session.scalars(select(Offer)).first()
            opened = []
            for number in (next(_numbers) for _ in range(many)):
                customer = Customer(seller_id=self.seller_id, bot_id=bot.id, channel="telegram", chat_id=f"9{number}")
                customer.external_id = new_secret()
                db.session.add(customer)
                db.session.flush()
                payment = sales.open_sale(bot, customer, offer, "t")
                payment.amount_cents, payment.test = price_cents, test
                opened.append(payment.id)
            db.session.commit()
        return opened

    def charge(self, payment_id: int) -> None:
        """What the job does, here and now."""
        with self.line.seller(self.seller_id):
            charges.charge(payment_id)

    def payments(self) -> list[dict]:
        return self.line.rows("select * from payment where seller_id = :id order by id", id=self.seller_id)


def open_shop(
    line: Line, *, gateways: tuple[str, ...] = ("pushinpay",), delivers: list[dict] | None = None, test: bool = False
) -> Shop:
    """A shop with one connected Telegram bot, one offer of R$ 49,90, the gateways in order of priority, and a pixel."""
    number = next(_numbers)
    token = f"{100000 + number}:AAE-{number:031d}"
    line.world.telegram.add_bot(token, f"loja{number}_bot")
    with line.app.app_context():
        made = sellers.create(f"Loja {number}", f"dona{number}@example.com")
        bot = _add_bot(made.seller_id, token, test)
        _add_offer(bot, delivers or [{"kind": "link", "url": "https://example.com/curso"}])
        shop = Shop(line, made.seller_id, bot.id, token, bot.public_id, f"promo{number}", f"{5550000 + number}")
        for place, kind in enumerate(gateways, 1):
            shop.gateways[kind] = _add_gateway(line, made.seller_id, kind, place, number)
        _add_link(bot, shop.slug)
        _add_pixel(line, made.seller_id, shop.pixel_id)
        enqueue(connections.connect_job(bot))
        db.session.commit()
    line.work()
    return shop


def _add_bot(seller_id: int, token: str, test: bool) -> Bot:
    sealed = vault().seal(token, "bot.token", seller_id)
    bot = Bot(seller_id=seller_id, key="vendas", public_id=new_secret(), token_sealed=sealed, test=test)
    bot.token_hash = fingerprint(token)
    db.session.add(bot)
    db.session.flush()
    doors.put(DoorKind.BOT, bot.public_id, seller_id, bot.id, doors.telegram_secret(bot.public_id))
    return bot


def _add_offer(bot: Bot, delivers: list[dict]) -> None:
    offer = Offer(seller_id=bot.seller_id, key="curso", name="Curso Completo", price_cents=4990, delivers=delivers)
    db.session.add(offer)
    db.session.flush()
    db.session.add(BotOffer(bot_id=bot.id, offer_id=offer.id, seller_id=bot.seller_id, position=1))


def _add_gateway(
    line: Line, seller_id: int, kind: str, priority: int, number: int, *, name: str = "", weight: int = 1
) -> int:
    fake = line.world.gateways[kind]
    credentials = fake.open_account(number)
    gateway = Gateway(seller_id=seller_id, name=name or kind, kind=kind, priority=priority, weight=weight)
    sellers.add_gateway(gateway, credentials)
    fake.connect(credentials, get_webhook_url(gateway))
    return gateway.id


def _add_link(bot: Bot, slug: str) -> None:
    link = Link(seller_id=bot.seller_id, slug=slug, bot_id=bot.id)
    db.session.add(link)
    db.session.flush()
    doors.put(DoorKind.LINK, slug, bot.seller_id, link.id)


def _add_pixel(line: Line, seller_id: int, pixel_id: str) -> None:
    line.world.meta.add_pixel(pixel_id, f"pixel-token-{pixel_id}")
    sealed = vault().seal(f"pixel-token-{pixel_id}", "destination.access_token", seller_id)
    db.session.add(
        Destination(seller_id=seller_id, name="pixel", kind="meta", pixel_id=pixel_id, access_token_sealed=sealed)
    )
