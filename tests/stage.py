"""The whole line for one play of many acts: two shops, the people who buy at both, the bank, and a clock to turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Self

from flask import current_app, has_app_context, has_request_context, request
from sqlalchemy import DateTime, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from bot_manager import sellers
from bot_manager.addresses import get_webhook_url
from bot_manager.jobs import queue
from bot_manager.jobs.clock import sweep
from models import Base, Gateway, Offer, db
from tests.hands import Hands
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.world.bank import Charge
from tests.world.telegram import Group
from tests.world.woovi import COMPLETED

WOOVI_EVENTS = (
    "OPENPIX:CHARGE_CREATED",
    COMPLETED,
    "OPENPIX:CHARGE_EXPIRED",
    "OPENPIX:TRANSACTION_RECEIVED",
    "PIX_TRANSACTION_REFUND_SENT_CONFIRMED",
)
_NAME = "stage"
_STILL = {"user", "membership"}  # tables whose times have no part in a sale


def _earlier() -> str:
    """One statement for each table: everything in it happened, or falls due, so much earlier."""
    moved = {
        table.name: [column.name for column in table.columns if isinstance(column.type, DateTime)]
        for table in Base.metadata.tables.values()
        if table.name not in _STILL
    }
    moved |= {
        "procrastinate_jobs": ["scheduled_at"],
        "procrastinate_events": ["at"],
        "procrastinate_workers": ["last_heartbeat"],
    }
    parts = (
        f'update "{name}" set ' + ", ".join(f"{column} = {column} - make_interval(secs => {{0}})" for column in columns)
        for name, columns in moved.items()
        if columns
    )
    # Books that are never changed are told no lie by it: it is the clock that moves.
    return ";".join(
        ("set local session_replication_role = replica", *parts, "set local session_replication_role = origin")
    )


_EARLIER = _earlier()


@event.listens_for(Session, "before_commit")
def _hiccup(_session: Session) -> None:
    """The database is away for a moment, for whoever posts something to us."""
    stage = current_app.extensions.get(_NAME) if has_request_context() and request.method == "POST" else None
    if stage and stage.hiccups:
        stage.hiccups -= 1
        raise OperationalError("commit", None, ConnectionError())


def watched(send: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, noted when a transaction is open around it."""

    def call(prepared: Any, **options: Any) -> Any:
        stage = current_app.extensions.get(_NAME) if has_app_context() else None
        if stage and db.session().in_transaction():
            stage.mixed.append(f"{prepared.method} {prepared.path_url} was called inside a transaction")
        return send(prepared, **options)

    return call


class Stage(Line):
    """A line whose jobs are run one by one, and whose clock the test turns: the fakes' clocks go along.

    hiccups: how many of the next commits of what is posted to us fail; mixed: calls made inside a transaction.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        self.turned = 0.0
        self.hiccups = 0
        self.mixed: list[str] = []
        self.groups: list[Group] = []
        self.app.extensions[_NAME] = self
        self.world.telegram.clock = lambda: time.monotonic() + self.turned
        self.world.woovi.tries = self.world.pushinpay.tries = 2
        self.hands = Hands(self)
        self.shops = [self._open(("pushinpay", "woovi")), self._open(("woovi", "pushinpay"))]
        self.people = [self.world.telegram.person(first_name=name) for name in ("Ana", "Bia")]
        self.work()
        return self

    def __exit__(self, *problem: object) -> None:
        self.hands.close()
        super().__exit__(*problem)

    def _open(self, gateways: tuple[str, ...]) -> Shop:
        shop = open_shop(self, gateways=gateways)
        number = shop.slug.removeprefix("promo")
        self.world.woovi.set_webhook(f"woovi-token-{number}", self.notice_url(shop, "woovi"), events=WOOVI_EVENTS)
        self._add_second_account(shop, number)
        group = self.world.telegram.group(f"VIP {number}", [self.world.telegram.bot(shop.token)])
        self.groups.append(group)
        self._sell(shop, number, group.id)
        return shop

    def _add_second_account(self, shop: Shop, number: str) -> None:
        """A company's second account, asked last: its notices are the same seller's, and speak of other charges."""
        account = f"woovi-token-second-{number}"
        self.world.woovi.add_account(account)
        with self.seller(shop.seller_id):
            gateway = Gateway(seller_id=shop.seller_id, name="second", kind="woovi", priority=3)
            sellers.add_gateway(gateway, {"app_id": account})
            shop.gateways["second"] = gateway.id
            self.world.woovi.set_webhook(account, get_webhook_url(gateway), events=WOOVI_EVENTS)
            db.session.commit()

    def _sell(self, shop: Shop, number: str, group: int) -> None:
        """Two offers, whose links are this shop's alone."""
        link = {"kind": "link", "url": f"https://example.com/{number}/curso"}
        more = [{"kind": "link", "url": f"https://example.com/{number}/bonus"}, {"kind": "group", "chat_id": group}]
        with self.seller(shop.seller_id):
            db.session.query(Offer).update({"delivers": [link]})
            offer = Offer(seller_id=shop.seller_id, key="vip", name="Grupo VIP", price_cents=2990, delivers=more)
            db.session.add(offer)
            db.session.flush()
            db.session.execute(
                text("insert into bot_offer (bot_id, offer_id, seller_id, position) values (:b, :o, :s, 2)"),
                {"b": shop.bot_id, "o": offer.id, "s": shop.seller_id},
            )
            db.session.commit()

    def notice_url(self, shop: Shop, kind: str) -> str:
        with self.seller(shop.seller_id):
            return get_webhook_url(db.session.get_one(Gateway, shop.gateways[kind]))

    # What goes on

    def hear(self) -> None:
        """What people did has reached us."""
        telegram = self.world.telegram
        telegram.wait_for(lambda: not any(telegram.pending(bot) for bot in telegram.bots if telegram.webhook(bot)))

    def work(self) -> None:
        self.hear()
        if hasattr(self, "hands"):
            self.hands.work()
        else:
            super().work()

    def pass_time(self, seconds: float) -> None:
        """The clock goes forward: what falls due becomes a job, and the jobs of the dead and the paused go back.
        Unlike the line's, it runs none of them."""
        self.turned += seconds
        for charge in self.charges():
            charge.created_at -= timedelta(seconds=seconds)
            charge.paid_at = charge.paid_at and charge.paid_at - timedelta(seconds=seconds)
        with self._owner.begin() as connection:
            connection.exec_driver_sql(_EARLIER.format(float(seconds)))
            connection.execute(
                text("update procrastinate_workers set last_heartbeat = now() where id = :id"), {"id": self.hands.alive}
            )
            sweep(connection)
            queue.free_the_dead(connection)

    def charges(self) -> list[Charge]:
        """Every charge at the bank, the oldest first."""
        found = [*self.world.pushinpay.charges.values(), *self.world.woovi.charges.values()]
        return sorted(found, key=lambda charge: charge.created_at)
