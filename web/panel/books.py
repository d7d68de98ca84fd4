"""Financeiro: what came in, what the providers kept, what went back; and the same, line by line, to take away."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

from flask import Blueprint, Response, abort, g, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Row, func, select

from bot_manager.payments.ledger import Kind
from models import ChargeAttempt, Gateway, LedgerEntry, Payment, db
from web.panel.figures import midnight, today_in
from web.panel.lookup import account_name

room = Blueprint("books", __name__, url_prefix="/financeiro")

PERIODS = {"7": "7 dias", "30": "30 dias", "90": "90 dias", "365": "12 meses"}
MOST_LINES = 100_000  # of one file, the newest: it is collected before it is sent
_KINDS: Mapping[str, str] = {Kind.SALE: "venda", Kind.FEE: "tarifa", Kind.REFUND: "devolução"}
_HEAD = ("data", "hora", "recebimento", "tipo", "venda", "cobrança no provedor", "valor (R$)")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Sums:
    """Cents as they changed the balance: fees and refunds are negative. untold: sales whose fee nobody told."""

    name: str
    sales: int = 0
    untold: int = 0
    gross: int = 0
    fees: int = 0
    refunds: int = 0

    @property
    def net(self) -> int:
        return self.gross + self.fees + self.refunds


@room.get("")
def index() -> ResponseReturnValue:
    chosen, since = _period()
    accounts = [_sums(row) for row in db.session.execute(_by_account(since))]
    values = {"periods": PERIODS, "chosen": chosen, "accounts": accounts, "total": _total(accounts)}
    return render_template("panel/books.html", **values)


@room.get("/livro.csv")
def book() -> ResponseReturnValue:
    chosen, since = _period()
    named = f'attachment; filename="livro-{today_in(g.place.zone):%Y-%m-%d}-{chosen}-dias.csv"'
    # By its first character spreadsheets know that it is UTF-8.
    return Response("\ufeff" + _table(since), mimetype="text/csv", headers={"Content-Disposition": named})


def _period() -> tuple[str, datetime]:
    """The days chosen, and when the first of them began."""
    chosen = request.args.get("dias", "30")
    if chosen not in PERIODS:
        abort(404)
    return chosen, midnight(today_in(g.place.zone) - timedelta(days=int(chosen) - 1), g.place.zone)


def _by_account(since: datetime) -> Any:
    def of(kind: Kind) -> Any:
        return func.coalesce(func.sum(LedgerEntry.amount_cents).filter(LedgerEntry.kind == kind), 0)

    def many(kind: Kind) -> Any:
        return func.count().filter(LedgerEntry.kind == kind)

    mine = LedgerEntry.seller_id == g.place.seller.id, LedgerEntry.at >= since
    sums = many(Kind.SALE), many(Kind.FEE), of(Kind.SALE), of(Kind.FEE), of(Kind.REFUND)
    joined = select(Gateway, *sums).join(LedgerEntry, LedgerEntry.gateway_id == Gateway.id)
    return joined.where(*mine).group_by(Gateway.id).order_by(Gateway.priority, Gateway.id)


def _sums(row: Row[Any]) -> Sums:
    gateway, (sales, told, gross, fees, refunds) = row[0], map(int, row[1:])
    return Sums(account_name(gateway), sales, sales - told, gross, fees, refunds)


def _total(accounts: Iterable[Sums]) -> Sums:
    names = ("sales", "untold", "gross", "fees", "refunds")
    return Sums("Total", **{name: sum(getattr(one, name) for one in accounts) for name in names})


# The table ----------------------------------------------------------------------------------------------------------


def _table(since: datetime) -> str:
    """As spreadsheets in Brazil read it: semicolons between fields, commas in amounts."""
    written = StringIO()
    lines = csv.writer(written, delimiter=";", lineterminator="\r\n")
    lines.writerow(_HEAD)
    lines.writerows(_lines(since))
    return written.getvalue()


def _lines(since: datetime) -> Iterator[tuple[str, ...]]:
    mine = LedgerEntry.seller_id == g.place.seller.id, LedgerEntry.at >= since
    shown = (
        select(LedgerEntry, Gateway, Payment.payment_id, ChargeAttempt.provider_id)
        .join(Gateway, Gateway.id == LedgerEntry.gateway_id)
        .join(Payment, Payment.id == LedgerEntry.payment_id)
        .join(ChargeAttempt, ChargeAttempt.id == LedgerEntry.attempt_id)
    )
    newest = shown.where(*mine).order_by(LedgerEntry.at.desc(), LedgerEntry.id.desc()).limit(MOST_LINES)
    for entry, gateway, payment_id, provider_id in db.session.execute(newest):
        at = entry.at.astimezone(g.place.zone)
        about = _plain(account_name(gateway)), _KINDS.get(entry.kind, entry.kind), payment_id, _plain(provider_id or "")
        yield f"{at:%d/%m/%Y}", f"{at:%H:%M:%S}", *about, _amount(entry.amount_cents)


def _amount(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100},{abs(cents) % 100:02d}"


def _plain(words: str) -> str:
    """A name that a spreadsheet does not take for a formula."""
    return f"'{words}" if words.startswith(_FORMULAS) else words
