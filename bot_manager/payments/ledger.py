"""The seller's books: each charge's money in, the provider's fee, money back. Entries are added and never changed.

Written in the transaction in which it became known, so that the books and the sales can't differ. Test sales are in no
books.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.engine import Connection

from bot_manager.jobs.names import Name
from models import UNBOOKED, AttemptState, Payment, db


class Kind(StrEnum):
    """What an entry is; kept, so a word stays what it means."""

    SALE = "sale"
    FEE = "fee"
    REFUND = "refund"


# What the provider told of its fee goes before what the seller told of its tariff; not known is not nothing.
_SALE = text(
    "insert into ledger_entry (seller_id, gateway_id, payment_id, attempt_id, kind, amount_cents, key, at)"
    " select a.seller_id, a.gateway_id, a.payment_id, a.id, e.kind, e.cents, e.kind, :at"
    " from charge_attempt a join gateway g on g.id = a.gateway_id, lateral (values"
    "  ('sale', cast(:amount as bigint)),"
    "  ('fee', -coalesce(cast(:fee as bigint), case when g.fee_fixed_cents is null and g.fee_basis_points is null"
    "   then null else coalesce(g.fee_fixed_cents, 0)"
    "    + round(:amount * coalesce(g.fee_basis_points, 0) / 10000.0)::bigint end))) e (kind, cents)"
    " where a.id = :attempt and e.cents is not null on conflict (attempt_id, key) do nothing"
)
_REFUND = text(
    "insert into ledger_entry (seller_id, gateway_id, payment_id, attempt_id, kind, amount_cents, key, at)"
    " select a.seller_id, a.gateway_id, a.payment_id, a.id, 'refund', -(:total - told.back),"
    "  'refund ' || :total, now()"
    " from charge_attempt a, lateral (select coalesce(-sum(l.amount_cents), 0)::bigint as back from ledger_entry l"
    "  where l.attempt_id = a.id and l.kind = 'refund') told"
    " where a.id = :attempt and :total > told.back on conflict (attempt_id, key) do nothing"
)
_READ_ALL = text("select set_config('app.operator', 'on', true)")
_CATCH_UP = text(
    "insert into timer (key, kind, seller_id, args, trace_id, due_at)"  # noqa: S608 - our own words
    " select 'book:' || id, :kind, seller_id, jsonb_build_object('attempt', id), '', now() from charge_attempt"
    f" where {UNBOOKED} order by id limit :batch on conflict do nothing"
)
_CLAIM = text(
    f"update charge_attempt set booked = state where id = :attempt and {UNBOOKED} returning payment_id, state, paid_at"  # noqa: S608
)
_LOCK = text("select 1 from charge_attempt where id = :attempt for update")


def book_sale(attempt_id: int, amount_cents: int, at: datetime, fee_cents: int | None) -> None:
    """Money of a charge came in. fee_cents: what the provider said that it keeps; else the account's tariff counts."""
    db.session.execute(_SALE, {"attempt": attempt_id, "amount": amount_cents, "at": at, "fee": fee_cents})


def book_refund(attempt_id: int, total_cents: int) -> bool:
    """Of a charge's money so much has gone back by now, in all; False when the books say so already.

    Told out of order, a smaller total changes nothing.
    """
    db.session.execute(_LOCK, {"attempt": attempt_id})
    result = db.session.execute(_REFUND, {"attempt": attempt_id, "total": total_cents})
    return bool(getattr(result, "rowcount", 0))


def catch_up(connection: Connection, batch: int = 500) -> None:
    """Has what an older program settled, which knows of no books, written into them."""
    connection.execute(_READ_ALL)
    connection.execute(_CATCH_UP, {"kind": Name.BOOK, "batch": batch})


def book(attempt: int) -> None:
    """A job: what is known of this charge is in the books when it ends."""
    row = db.session.execute(_CLAIM, {"attempt": attempt}).one_or_none()
    payment = db.session.get_one(Payment, row.payment_id) if row else None
    if row and payment and row.paid_at and not payment.test:
        book_sale(attempt, payment.amount_cents, row.paid_at, None)
        if row.state == AttemptState.REFUNDED:
            book_refund(attempt, payment.amount_cents)
    db.session.commit()
