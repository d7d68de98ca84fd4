"""Vendas: who paid, who did not; and one sale, with all that happened to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from flask import Blueprint, abort, g, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, Row, Select, and_, select, tuple_

from models import Bot, Customer, Gateway, Payment, PaymentStatus, db
from web.panel import decisions, timeline
from web.panel.figures import today_in
from web.panel.format import day_near
from web.panel.lookup import account_name, name_of
from web.panel.states import PAYMENT, Word, word

room = Blueprint("sales", __name__, url_prefix="/vendas")

PAGE = 30
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_REAL = Payment.test.is_(False)

Found = Row[Payment, Customer, Bot, Gateway]  # the gateway is None until one made a code


@dataclass(frozen=True, slots=True)
class View:
    """One way of looking at the list; its name stands in the address."""

    label: str
    rows: ColumnElement[bool]
    empty: str


def _real(*states: PaymentStatus) -> ColumnElement[bool]:
    return and_(_REAL, Payment.status.in_(states))


VIEWS = {
    "todas": View("Todas", _REAL, "Quando alguém gerar um PIX no seu bot, a venda aparece aqui na hora."),
    "pagas": View("Pagas", _real(PaymentStatus.PAID), "As vendas pagas aparecem aqui assim que o banco confirma."),
    "pendentes": View(
        "Pendentes", _real(PaymentStatus.NEW, PaymentStatus.PENDING), "Nenhum PIX esperando pagamento agora."
    ),
    "nao-pagas": View(
        "Não pagas",
        _real(PaymentStatus.EXPIRED, PaymentStatus.FAILED, PaymentStatus.CANCELLED),
        "Quem gerou um PIX e não pagou aparece aqui.",
    ),
    "devolvidas": View("Devolvidas", _real(PaymentStatus.REFUNDED), "Nenhum dinheiro devolvido."),
    "teste": View("Teste", Payment.test.is_(True), "Suas vendas de teste ficam aqui, sem entrar nas contas."),
}


@dataclass(frozen=True, slots=True)
class Sale:
    """A payment as a list shows it."""

    payment: Payment
    customer: str
    bot: str
    gateway: str | None
    word: Word


@room.get("")
def index() -> ResponseReturnValue:
    chosen = request.args.get("situacao", "todas")
    view = VIEWS.get(chosen) or abort(404)
    cursor = _read_cursor(request.args.get("antes", ""))
    rows = _page(view, cursor)
    values = {
        "days": _by_day(rows[:PAGE], cursor),
        "more": _cursor(rows[PAGE - 1].Payment) if len(rows) > PAGE else None,
        "chosen": chosen,
        "view": view,
    }
    if "HX-Request" in request.headers:
        return render_template("panel/_sales.html", **values)
    return render_template("panel/sales.html", views=VIEWS, paged=cursor is not None, **values)


@room.get("/<payment_id>")
def one(payment_id: str) -> ResponseReturnValue:
    if "\0" in payment_id:
        abort(404)
    row = db.session.execute(_joined().where(Payment.payment_id == payment_id)).one_or_none() or abort(404)
    story = timeline.of(row.Payment, row.Customer)
    why = decisions.reasons(row.Payment, [attempt for attempt, _ in story.attempts])
    return render_template("panel/sale.html", sale=_sale(row), story=story, why=why)


def latest(count: int) -> list[Sale]:
    """The newest sales, tests among them."""
    return [_sale(row) for row in db.session.execute(_newest_first().limit(count))]


def _joined() -> Select[Payment, Customer, Bot, Gateway]:
    return (
        select(Payment, Customer, Bot, Gateway)
        .join(Customer, Customer.id == Payment.customer_id)
        .join(Bot, Bot.id == Payment.bot_id)
        .outerjoin(Gateway, Gateway.id == Payment.gateway_id)
    )


def _newest_first() -> Select[Payment, Customer, Bot, Gateway]:
    mine = Payment.seller_id == g.place.seller.id
    return _joined().where(mine).order_by(Payment.created_at.desc(), Payment.id.desc())


def _page(view: View, cursor: tuple[datetime, int] | None) -> Sequence[Found]:
    """One row more than a page, to know whether there is another."""
    statement = _newest_first().where(view.rows)
    if cursor:
        statement = statement.where(tuple_(Payment.created_at, Payment.id) < cursor)
    return db.session.execute(statement.limit(PAGE + 1)).all()


def _sale(row: Found) -> Sale:
    payment, customer, bot, gateway = row
    name = account_name(gateway) if gateway else None
    return Sale(payment, name_of(customer), bot.name or bot.key, name, word(PAYMENT, payment.status))


def _by_day(rows: Sequence[Found], cursor: tuple[datetime, int] | None) -> list[tuple[str | None, list[Sale]]]:
    """The sales under the names of their days; a day that began on the page before is not named again."""
    zone, today = g.place.zone, today_in(g.place.zone)
    before = cursor and cursor[0].astimezone(zone).date()
    days = groupby(rows, key=lambda row: row.Payment.created_at.astimezone(zone).date())
    return [(None if of == before else day_near(of, today), [_sale(row) for row in its]) for of, its in days]


def _cursor(payment: Payment) -> str:
    return f"{(payment.created_at - _EPOCH) // timedelta(microseconds=1)}-{payment.id}"


def _read_cursor(text: str) -> tuple[datetime, int] | None:
    """Where the last page ended; None for the start, or for what is no cursor."""
    microseconds, _, number = text.partition("-")
    if not (microseconds.isascii() and microseconds.isdigit() and number.isascii() and number.isdigit()):
        return None
    if len(microseconds) > 16 or len(number) > 18:
        return None
    return _EPOCH + timedelta(microseconds=int(microseconds)), int(number)
