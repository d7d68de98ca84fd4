"""The numbers of the first page. Test sales count nowhere; days are the seller's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, Date, and_, case, cast, func, select
from sqlalchemy.sql.elements import ColumnElement

from models import Bot, Customer, Payment, PaymentStatus, db

DAYS = 30
# A late notice may pay an older sale; older than this it is not looked for, so that the index on created_at serves.
LATE = timedelta(days=7)

_REAL = Payment.test.is_(False)
_PAID = and_(_REAL, Payment.status == PaymentStatus.PAID)
_CODE_SHOWN = and_(_REAL, Payment.gateway_id.is_not(None))


@dataclass(frozen=True, slots=True)
class Today:
    """Cents and counts of today, and what to compare them with."""

    received: int
    received_before: int
    sales: int
    sales_before: int
    codes: int
    codes_paid: int

    @property
    def mean(self) -> int:
        return round(self.received / self.sales) if self.sales else 0

    @property
    def mean_before(self) -> int:
        return round(self.received_before / self.sales_before) if self.sales_before else 0


@dataclass(frozen=True, slots=True)
class Day:
    date: date
    cents: int
    sales: int


@dataclass(frozen=True, slots=True)
class BotToday:
    bot: Bot
    conversations: int
    codes: int
    sales: int
    received: int


def today_in(zone: ZoneInfo) -> date:
    return datetime.now(zone).date()


def midnight(of: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(of, time(), zone).astimezone(UTC)


def today(seller_id: int, zone: ZoneInfo) -> Today:
    start = midnight(today_in(zone), zone)
    before = midnight(today_in(zone) - timedelta(days=1), zone)
    now, then = and_(_PAID, Payment.paid_at >= start), and_(_PAID, Payment.paid_at >= before, Payment.paid_at < start)
    shown = and_(_CODE_SHOWN, Payment.created_at >= start)
    counts = select(
        _cents(now),
        _cents(then),
        _count(now),
        _count(then),
        _count(shown),
        _count(and_(shown, Payment.paid_at.is_not(None))),
    ).where(Payment.seller_id == seller_id, Payment.created_at >= before - LATE)
    return Today(*db.session.execute(counts).one())


def by_day(seller_id: int, zone: ZoneInfo) -> list[Day]:
    """The last 30 days, the empty ones too, today last."""
    last = today_in(zone)
    first = last - timedelta(days=DAYS - 1)
    local_day = cast(func.timezone(str(zone), Payment.paid_at), Date)
    rows = db.session.execute(
        select(local_day, func.sum(Payment.amount_cents), func.count())
        .where(Payment.seller_id == seller_id, Payment.created_at >= midnight(first, zone) - LATE)
        .where(_PAID, Payment.paid_at >= midnight(first, zone))
        .group_by(local_day)
    )
    known = {day: (int(cents), int(sales)) for day, cents, sales in rows}
    days = (first + timedelta(days=number) for number in range(DAYS))
    return [Day(day, *known.get(day, (0, 0))) for day in days]


def by_bot(seller_id: int, zone: ZoneInfo) -> list[BotToday]:
    start = midnight(today_in(zone), zone)
    paid, shown = and_(_PAID, Payment.paid_at >= start), and_(_CODE_SHOWN, Payment.created_at >= start)
    sold = (
        select(Payment.bot_id, _count(shown).label("codes"), _count(paid).label("sales"), _cents(paid).label("cents"))
        .where(Payment.seller_id == seller_id, Payment.created_at >= start - LATE)
        .group_by(Payment.bot_id)
        .subquery()
    )
    talked = (
        select(Customer.bot_id, func.count().label("people"))
        .where(Customer.seller_id == seller_id, Customer.started_at >= start, Customer.channel != "panel")
        .group_by(Customer.bot_id)
        .subquery()
    )
    columns = (talked.c.people, sold.c.codes, sold.c.sales, sold.c.cents)
    rows = db.session.execute(
        select(Bot, *(func.coalesce(column, 0) for column in columns))
        .outerjoin(sold, sold.c.bot_id == Bot.id)
        .outerjoin(talked, talked.c.bot_id == Bot.id)
        .where(Bot.archived_at.is_(None))
        .order_by(Bot.test, Bot.id)
    )
    return [BotToday(*row) for row in rows]


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def _cents(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(case((condition, Payment.amount_cents))), 0), BigInteger)
