"""The sale: open, show, settle, expire, refund. Database only, and the only writer of `Payment.status`.

States: new → pending → paid → refunded; new or pending → failed, expired or cancelled; and whatever is not paid or
refunded → paid, since late money is money. Each verb writes its facts, the audit and the next jobs in the caller's
transaction.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, case, func, or_, select, union_all, update
from sqlalchemy.engine import CursorResult

from bot_manager import timeline
from bot_manager.bots.inbox import Chat
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue
from bot_manager.payments import ledger
from bot_manager.security.vault import new_secret
from gateways.base import ChargeState, Status
from models import (
    AttemptState,
    Base,
    Bot,
    ChargeAttempt,
    Customer,
    Gateway,
    Offer,
    Payment,
    PaymentStatus,
    db,
)

LIVE = (PaymentStatus.NEW, PaymentStatus.PENDING)
FINAL = (PaymentStatus.PAID, PaymentStatus.REFUNDED)
UNPAID = (AttemptState.SENDING, AttemptState.MADE, AttemptState.UNKNOWN)  # a charge that may still be paid
CONCLUDED = (AttemptState.PAID, AttemptState.REFUNDED)
CLOCKS_DIFFER = timedelta(minutes=5)


class NotATestSale(ValueError):
    """Only a test sale can be approved by hand."""

    permanent = True


class Outcome(StrEnum):
    """What settling did. Only PAID is new; the others are kept and visible."""

    PAID = "paid"
    DUPLICATE = "duplicate"
    PAID_TWICE = "paid_twice"  # the customer paid two codes of one sale: the seller owes one back
    MISMATCH = "mismatch"
    NOT_PAID = "not_paid"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True)
class Match:
    """A charge attempt that a notice or an answer speaks of, and its payment."""

    attempt_id: int
    payment_id: int
    provider_id: str | None
    seller_id: int
    amount_cents: int
    currency: str
    test: bool
    trace_id: str
    created_at: datetime


# Built once: a notice is settled inside the request, and building statements is most of what the ORM costs.
_attempt = Base.metadata.tables["charge_attempt"]
_payment = Base.metadata.tables["payment"]
_BY_REFERENCE = _payment.c.webhook_token == bindparam("reference")
_BY_PROVIDER = _attempt.c.provider_id == bindparam("provider_id")
_BY_PAYMENT = _payment.c.payment_id == bindparam("payment_id")


def _named(meant: ColumnElement[bool]) -> Select[tuple[int]]:
    joined = select(_attempt.c.id).join(_payment, _payment.c.id == _attempt.c.payment_id)
    return joined.where(_attempt.c.gateway_id == bindparam("gateway_id"), meant).correlate(None)


_MATCH = (
    select(
        _attempt.c.id.label("attempt_id"),
        _payment.c.id.label("payment_id"),
        _attempt.c.provider_id,
        _payment.c.seller_id,
        _payment.c.amount_cents,
        _payment.c.currency,
        _payment.c.test,
        _payment.c.trace_id,
        _payment.c.created_at,
    )
    .join(_payment, _payment.c.id == _attempt.c.payment_id)
    # Each by its own index: an `or` across the two tables would read every charge of the account.
    .where(_attempt.c.id.in_(union_all(_named(_BY_REFERENCE), _named(_BY_PROVIDER), _named(_BY_PAYMENT))))
    .order_by(
        case((_BY_REFERENCE, 0), (_BY_PROVIDER, 1), else_=2),
        case((_BY_PROVIDER, 0), (_attempt.c.provider_id.is_(None), 1), else_=2),
        _attempt.c.id.desc(),
    )
    .limit(1)
)
_PAY = (
    update(_payment)
    .where(_payment.c.id == bindparam("id_"), _payment.c.status.not_in(FINAL))
    .values(
        status=PaymentStatus.PAID,
        paid_at=bindparam("at"),
        gateway_id=func.coalesce(_payment.c.gateway_id, bindparam("gateway")),
    )
)
_PAY_ATTEMPT = (
    update(_attempt)
    .where(_attempt.c.id == bindparam("id_"), _attempt.c.state.not_in(CONCLUDED))
    .values(
        state=AttemptState.PAID,
        booked=AttemptState.PAID,
        paid_at=bindparam("at"),
        provider_id=func.coalesce(_attempt.c.provider_id, bindparam("provider")),
        end_to_end_id=bindparam("end_to_end"),
    )
)


def match(gateway_id: int, reference: str | None, provider_id: str | None, payment_id: str | None) -> Match | None:
    """The attempt that is meant, by our token, then the provider's id, then our payment id, within one account.

    Two attempts of one account never share a provider's id; a notice whose token names one charge and whose id names
    another is refused in `contradicts`.
    """
    keys = {"reference": reference, "provider_id": provider_id, "payment_id": payment_id}
    row = db.session.execute(_MATCH, {**keys, "gateway_id": gateway_id}).one_or_none()
    return Match(*row) if row else None


def match_transfer(gateway_id: int, end_to_end_id: str) -> Match | None:
    """The attempt that this transfer paid: all that some providers name a refund by."""
    paid_by = ChargeAttempt.gateway_id == gateway_id, ChargeAttempt.end_to_end_id == end_to_end_id
    payment_id = db.session.scalar(select(Payment.payment_id).join(ChargeAttempt).where(*paid_by))
    attempt = db.session.scalar(select(ChargeAttempt.provider_id).where(*paid_by))
    return match(gateway_id, None, attempt, payment_id) if payment_id else None


def contradicts(gateway_id: int, found: Match, provider_id: str | None) -> bool:
    """Whether the provider's id belongs to another charge than the one that the token names."""
    if provider_id is None or found.provider_id == provider_id:
        return False
    other = select(ChargeAttempt.id).where(
        ChargeAttempt.gateway_id == gateway_id, ChargeAttempt.provider_id == provider_id
    )
    return found.provider_id is not None or db.session.scalar(other) is not None


def open_sale(bot: Bot, customer: Customer, offer: Offer, trace: str) -> Payment:
    """The customer's live payment for this offer: the one there is, or a new one with its charge job.

    The caller holds the customer's row, so that two taps at once make one payment.
    """
    if live := live_sale(customer, offer):
        if live.status == PaymentStatus.NEW or live.expires_at > datetime.now(UTC):
            return live
        expire(live)
    payment = Payment(
        payment_id=f"BOT{bot.id}_{uuid.uuid4().hex}",
        seller_id=bot.seller_id,
        bot_id=bot.id,
        customer_id=customer.id,
        offer_id=offer.id,
        offer_name=offer.name,
        items=offer.delivers,
        amount_cents=offer.price_cents,
        test=bot.test or customer.channel == "panel",
        webhook_token=new_secret(),
        tracking_token=customer.tracking_token,
        trace_id=trace,
        expires_at=datetime.now(UTC) + timedelta(minutes=bot.pix_minutes),
    )
    db.session.add(payment)
    db.session.flush()
    timeline.add(payment.seller_id, payment.id, "opened", offer=offer.key, amount_cents=offer.price_cents)
    job = Job(Name.CHARGE, payment.seller_id, trace, {"payment": payment.id}, lock=f"charge:{payment.id}")
    enqueue(job)
    return payment


def live_sale(customer: Customer, offer: Offer) -> Payment | None:
    """The customer's open payment for this offer, whose time may be over."""
    mine = Payment.customer_id == customer.id, Payment.offer_id == offer.id
    return db.session.scalar(select(Payment).where(*mine, Payment.status.in_(LIVE)).with_for_update(key_share=True))


def show(payment_id: int, gateway_id: int, pix_code: str, expires_at: datetime) -> bool:
    """This gateway's code becomes the payment's; False when it is not new any more (the notice overtook the answer)."""
    statement = (
        update(Payment)
        .where(Payment.id == payment_id, Payment.status == PaymentStatus.NEW)
        .values(status=PaymentStatus.PENDING, gateway_id=gateway_id, pix_code=pix_code, expires_at=expires_at)
    )
    return _changed(statement)


def fail(payment: Payment) -> bool:
    """No gateway made a charge. Money that comes in for an attempt all the same still makes it paid."""
    statement = update(Payment).where(Payment.id == payment.id, Payment.status == PaymentStatus.NEW)
    if not _changed(statement.values(status=PaymentStatus.FAILED)):
        return False
    timeline.add(payment.seller_id, payment.id, "failed")
    return True


def expire(payment: Payment) -> bool:
    statement = update(Payment).where(Payment.id == payment.id, Payment.status.in_(LIVE))
    if not _changed(statement.values(status=PaymentStatus.EXPIRED)):
        return False
    timeline.add(payment.seller_id, payment.id, "expired")
    return True


def settle(gateway_id: int, found: Match, state: ChargeState) -> Outcome:
    """Acts on a provider's word that can be believed: the money rule, in one place, in the caller's transaction."""
    if state.status is Status.REFUNDED:
        return _refund(found)
    if state.status is not Status.PAID:
        return Outcome.NOT_PAID
    if (state.amount_cents, state.currency) != (found.amount_cents, found.currency):
        return Outcome.MISMATCH
    at = _payment_time(found, state)
    named = {"provider": state.provider_id or None, "end_to_end": state.end_to_end_id}
    if not _rows(_PAY_ATTEMPT, id_=found.attempt_id, at=at, **named):
        return _known(found, state)
    first = _rows(_PAY, id_=found.payment_id, at=at, gateway=gateway_id)
    if not found.test:
        ledger.book_sale(found.attempt_id, found.amount_cents, at, state.fee_cents)
    _book_part(found, state)
    if not first:
        return _again(found, gateway_id)
    timeline.add(found.seller_id, found.payment_id, "paid", gateway=gateway_id, end_to_end_id=state.end_to_end_id)
    enqueue(
        Job(Name.DELIVER, found.seller_id, found.trace_id, {"payment": found.payment_id}),
        Job(Name.REPORT_PURCHASE, found.seller_id, found.trace_id, {"payment": found.payment_id}),
    )
    return Outcome.PAID


def _payment_time(found: Match, state: ChargeState) -> datetime:
    # The provider's time is what the ad platforms want, unless its clock can't be right.
    now = datetime.now(UTC)
    if state.paid_at and found.created_at - CLOCKS_DIFFER <= state.paid_at <= now:
        return state.paid_at
    return now


def _again(found: Match, gateway_id: int) -> Outcome:
    timeline.add(found.seller_id, found.payment_id, "paid_twice", gateway=gateway_id, attempt=found.attempt_id)
    return Outcome.PAID_TWICE


def _known(found: Match, state: ChargeState) -> Outcome:
    """Told again. A query may have settled it without the transfer's own id, and a refund may name nothing else."""
    if state.end_to_end_id:
        unnamed = ChargeAttempt.id == found.attempt_id, ChargeAttempt.end_to_end_id.is_(None)
        db.session.execute(update(ChargeAttempt).where(*unnamed).values(end_to_end_id=state.end_to_end_id))
    _book_part(found, state)
    return Outcome.DUPLICATE


def _book_part(found: Match, state: ChargeState) -> None:
    """A part of the money went back: the sale stands."""
    if state.refunded_cents and not found.test and ledger.book_refund(found.attempt_id, state.refunded_cents):
        timeline.add(found.seller_id, found.payment_id, "refunded_in_part", amount_cents=state.refunded_cents)


def _refund(found: Match) -> Outcome:
    """The money of one charge went back. The sale goes back with it, unless another charge of it is paid or may be."""
    mine = ChargeAttempt.id == found.attempt_id, ChargeAttempt.state != AttemptState.REFUNDED
    paid_at = db.session.scalar(select(ChargeAttempt.paid_at).where(ChargeAttempt.id == found.attempt_id))
    if not _changed(
        update(ChargeAttempt).where(*mine).values(state=AttemptState.REFUNDED, booked=AttemptState.REFUNDED)
    ):
        return Outcome.DUPLICATE
    # Its lock keeps two refunds at once from each taking the other's charge for one that stays.
    payment = db.session.get_one(Payment, found.payment_id, with_for_update={"key_share": True})
    if paid_at and not found.test:
        ledger.book_refund(found.attempt_id, found.amount_cents)
    holds = (AttemptState.PAID,) if payment.status in FINAL else (AttemptState.PAID, *UNPAID)
    others = ChargeAttempt.payment_id == payment.id, ChargeAttempt.state.in_(holds)
    if db.session.scalar(select(ChargeAttempt.id).where(*others).limit(1)):
        timeline.add(found.seller_id, found.payment_id, "charge_refunded", attempt=found.attempt_id)
        return Outcome.REFUNDED
    statement = update(Payment).where(Payment.id == found.payment_id, Payment.status != PaymentStatus.REFUNDED)
    if not _changed(statement.values(status=PaymentStatus.REFUNDED)):
        return Outcome.DUPLICATE
    timeline.add(found.seller_id, found.payment_id, "refunded")
    enqueue(Job(Name.TAKE_ACCESS_BACK, found.seller_id, found.trace_id, {"payment": found.payment_id}))
    return Outcome.REFUNDED


def approve_test_sale(payment: Payment) -> Outcome:
    """What a bank's notice would do, for a sandbox charge. Raises NotATestSale."""
    attempt = db.session.scalar(
        select(ChargeAttempt)
        .join(Gateway, Gateway.id == ChargeAttempt.gateway_id)
        .where(ChargeAttempt.payment_id == payment.id, Gateway.kind == "sandbox")
    )
    if not payment.test or attempt is None:
        raise NotATestSale(f"{payment.payment_id} is no test sale, or has no code yet")
    found = match(attempt.gateway_id, payment.webhook_token, attempt.provider_id, None)
    if found is None:
        raise NotATestSale(f"{payment.payment_id} has no charge to approve")
    state = ChargeState(Status.PAID, attempt.provider_id or "", payment.amount_cents, paid_at=datetime.now(UTC))
    return settle(attempt.gateway_id, found, state)


def may_ask(payment_id: int) -> bool:
    """Takes the turn to ask the gateway on a customer's word: once in ten seconds."""
    ten_seconds_ago = func.now() - timedelta(seconds=10)
    unasked = or_(Payment.asked_at.is_(None), Payment.asked_at < ten_seconds_ago)
    return _changed(update(Payment).where(Payment.id == payment_id, unasked).values(asked_at=func.now()))


def chat_of(payment: Payment) -> Chat:
    customer = db.session.get_one(Customer, payment.customer_id)
    return Chat(payment.seller_id, payment.bot_id, customer.channel, customer.chat_id)


def look_key(payment_id: int) -> str:
    return f"look:{payment_id}"


def _changed(statement: Any) -> bool:
    return bool(_rows(statement))


def _rows(statement: Any, **values: Any) -> int:
    result = db.session.execute(statement, values)
    return result.rowcount if isinstance(result, CursorResult) else 0
