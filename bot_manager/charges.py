"""Asking gateways: make a charge at the first that will, and look again whether one is paid.

These are jobs, and no transaction is open while a gateway is asked: facts are read and committed before, the outcome
is written after.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update

import gateways
from bot_manager import inbox, sales, timeline
from bot_manager.accounts import account, note_error
from bot_manager.addresses import get_webhook_url
from bot_manager.app import settings
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue, set_timer
from gateways.base import (
    Account,
    Charge,
    ChargeRequest,
    ChargeState,
    GatewayError,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnreachable,
)
from gateways.selector import Candidate, order
from models import AttemptState, Bot, ChargeAttempt, Gateway, Payment, PaymentStatus, Seller, db

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
CLAIM = timedelta(seconds=15)  # longer than PATIENCE_S: a claim that old belongs to the dead
FIRST_LOOK_S = {True: 120.0, False: 20.0}  # whether notices can reach us
LONGEST_LOOK_S = 900.0
LOOK_AFTER_EXPIRY = timedelta(hours=1)

_ATTEMPT_STATE = {
    GatewayRefused: AttemptState.REFUSED,
    GatewayMisconfigured: AttemptState.REFUSED,
    GatewayUnreachable: AttemptState.UNREACHABLE,
}


class Busy(Exception):
    """Another run of the same job is at it; try again when its claim is old, in `wait_seconds`."""

    permanent = False

    def __init__(self, message: str, wait_seconds: float) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt, ready to be made outside of any transaction."""

    attempt_id: int
    gateway_id: int
    kind: str
    account: Account
    request: ChargeRequest


# Charge -----------------------------------------------------------------------------------------------------------


def charge(payment: int) -> None:
    """Makes the PIX code of a new payment at the first gateway that will, within the customer's patience."""
    if not _claim(payment):
        return
    deadline = time.monotonic() + PATIENCE_S
    for attempt in _tries(payment):
        if _try(payment, attempt) or time.monotonic() > deadline:
            break
    _give_up_unless_shown(payment)


def _claim(payment_id: int) -> bool:
    """Takes the payment for this run; False when it needs no code any more. Raises Busy."""
    payment = db.session.get(Payment, payment_id, with_for_update=True)
    if payment is None or payment.status != PaymentStatus.NEW:
        return False
    if payment.claimed_at and (rest := payment.claimed_at + CLAIM - datetime.now(UTC)) > timedelta(0):
        raise Busy(f"{payment.payment_id} is being charged", rest.total_seconds())
    payment.claimed_at = datetime.now(UTC)
    # An attempt left by a run that died may have made a charge. Its code was never shown, so another may be made
    # without any risk of the customer paying both; a notice for it still settles.
    left = ChargeAttempt.payment_id == payment_id, ChargeAttempt.state == AttemptState.SENDING
    db.session.execute(update(ChargeAttempt).where(*left).values(state=AttemptState.UNKNOWN))
    db.session.commit()
    return True


def _tries(payment_id: int) -> Iterator[Try]:
    for gateway_id in _candidates(payment_id):
        yield _begin(payment_id, gateway_id)


def _candidates(payment_id: int) -> list[int]:
    """The gateway accounts to ask, in order. Test sales are the sandbox's, real ones are never."""
    payment = db.session.get_one(Payment, payment_id)
    turn = db.session.execute(
        update(Seller).where(Seller.id == payment.seller_id).values(turn=Seller.turn + 1).returning(Seller.turn)
    ).scalar_one()
    found = db.session.scalars(select(Gateway).where(Gateway.active, Gateway.archived_at.is_(None)))
    fitting = [g for g in found if gateways.get(g.kind).test_only == payment.test]
    chosen = order([Candidate(g.id, g.priority, g.weight) for g in fitting], turn - 1)
    db.session.commit()
    return [candidate.id for candidate in chosen]


def _begin(payment_id: int, gateway_id: int) -> Try:
    payment = db.session.get_one(Payment, payment_id)
    gateway = db.session.get_one(Gateway, gateway_id)
    bot = db.session.get_one(Bot, payment.bot_id)
    attempt = ChargeAttempt(seller_id=payment.seller_id, payment_id=payment.id, gateway_id=gateway.id)
    db.session.add(attempt)
    gateway.last_charge_at = datetime.now(UTC)
    db.session.flush()
    request = ChargeRequest(
        payment_id=payment.payment_id,
        reference=payment.webhook_token,
        amount_cents=payment.amount_cents,
        description=payment.offer_name,
        notice_url=f"{get_webhook_url(gateway)}?t={payment.webhook_token}",
        expires_in=bot.pix_minutes * 60,
    )
    ready = Try(attempt.id, gateway.id, gateway.kind, account(gateway), request)
    db.session.commit()
    return ready


def _try(payment_id: int, attempt: Try) -> bool:
    """True when there is nothing more to try: a code was made, or the payment needs none any more."""
    try:
        made = gateways.get(attempt.kind).create_charge(attempt.account, attempt.request)
    except GatewayError as error:
        _keep_refusal(payment_id, attempt, error)
        return False
    _keep_charge(payment_id, attempt, made)
    return True


def _keep_refusal(payment_id: int, attempt: Try, error: GatewayError) -> None:
    state = _ATTEMPT_STATE.get(type(error), AttemptState.UNKNOWN)
    row = db.session.get_one(ChargeAttempt, attempt.attempt_id)
    if row.state == AttemptState.SENDING:  # else its notice has overtaken the answer
        row.state, row.error, row.ended_at = state, str(error)[:300], datetime.now(UTC)
    note_error(attempt.gateway_id, str(error))
    timeline.add(row.seller_id, payment_id, "gateway_failed", gateway=attempt.gateway_id, state=state, error=str(error))
    db.session.commit()
    logger.warning("a gateway made no charge", extra={"gateway": attempt.gateway_id, "state": state})


def _keep_charge(payment_id: int, attempt: Try, made: Charge) -> None:
    row = db.session.get_one(ChargeAttempt, attempt.attempt_id)
    row.provider_id, row.ended_at = made.provider_id, datetime.now(UTC)
    if row.state == AttemptState.SENDING:
        row.state = AttemptState.MADE
    note_error(attempt.gateway_id, None)
    db.session.flush()
    expires_at = datetime.now(UTC) + timedelta(seconds=attempt.request.expires_in)
    if sales.show(payment_id, attempt.gateway_id, made.pix_code, expires_at):
        payment = db.session.get_one(Payment, payment_id)
        timeline.add(payment.seller_id, payment.id, "charged", gateway=attempt.gateway_id)
        _tell_chat(payment, "pix_ready", f"{attempt.attempt_id}")
        _look_later(payment, FIRST_LOOK_S[settings().public_url is not None])
    db.session.commit()


def _give_up_unless_shown(payment_id: int) -> None:
    payment = db.session.get_one(Payment, payment_id)
    if sales.fail(payment):
        _tell_chat(payment, "pix_failed", payment.payment_id)
        _look_later(payment, FIRST_LOOK_S[False])
        logger.error("no gateway made a charge", extra={"payment": payment.payment_id})
    db.session.commit()


def _tell_chat(payment: Payment, what: str, key: str, **more: str) -> None:
    body = {"sale": what, "payment": payment.id, **more}
    inbox.put(sales.chat_of(payment), f"sale:{what}:{key}", body, trace=payment.trace_id)


# Look again -------------------------------------------------------------------------------------------------------


def look(payment: int, wait: float = 0.0, tell: str | None = None) -> None:
    """Asks the gateways whether an open payment is paid, and expires it when its time is over.

    wait: seconds until this look, which the next one doubles. tell: the key of a customer's question to be answered.
    """
    status = "unknown"
    askable = _askable(payment)
    for attempt in askable:
        answer = _ask(attempt)
        if answer is not None:
            status = _settle(attempt, answer)
        if status == PaymentStatus.PAID:
            break
    _after_look(payment, wait, tell, status if askable else PaymentStatus.PENDING)


def ask_for(payment: Payment, question: str) -> None:
    """A customer says that they paid: looks now, and answers."""
    args = {"payment": payment.id, "tell": question}
    enqueue(Job(Name.LOOK, payment.seller_id, payment.trace_id, args))


@dataclass(frozen=True, slots=True)
class Question:
    """What is needed to ask one gateway about one attempt."""

    attempt_id: int
    gateway_id: int
    kind: str
    account: Account
    provider_id: str
    reference: str


def question(attempt: ChargeAttempt, provider_id: str | None = None) -> Question | None:
    """provider_id: as a notice names it, for an attempt whose own answer never came."""
    asked = attempt.provider_id or provider_id
    gateway = db.session.get_one(Gateway, attempt.gateway_id)
    payment = db.session.get_one(Payment, attempt.payment_id)
    edge = gateways.get(gateway.kind)
    if asked is None and not edge.finds_by_reference:
        return None
    return Question(attempt.id, gateway.id, gateway.kind, account(gateway), asked or "", payment.webhook_token)


def ask(about: Question) -> ChargeState | None:
    """The gateway's answer. Raises GatewayError."""
    return gateways.get(about.kind).fetch_charge(about.account, about.provider_id, about.reference)


def _askable(payment_id: int) -> list[Question]:
    payment = db.session.get(Payment, payment_id)
    if payment is None or payment.status in sales.FINAL or payment.test:
        db.session.rollback()
        return []
    mine = ChargeAttempt.payment_id == payment_id, ChargeAttempt.state.in_(sales.UNPAID)
    asked = [question(attempt) for attempt in db.session.scalars(select(ChargeAttempt).where(*mine))]
    db.session.commit()
    return [about for about in asked if about]


def _ask(about: Question) -> ChargeState | None:
    try:
        return ask(about)
    except GatewayError as error:
        note_error(about.gateway_id, str(error))
        db.session.commit()
        return None


def _settle(about: Question, state: ChargeState) -> str:
    found = sales.match(about.gateway_id, about.reference, about.provider_id or state.provider_id, None)
    outcome = sales.settle(about.gateway_id, found, state) if found else None
    db.session.commit()
    return PaymentStatus.PAID if outcome in (sales.Outcome.PAID, sales.Outcome.DUPLICATE) else PaymentStatus.PENDING


def _after_look(payment_id: int, wait: float, tell: str | None, status: str) -> None:
    payment = db.session.get_one(Payment, payment_id, populate_existing=True)
    if payment.status in sales.LIVE and payment.expires_at <= datetime.now(UTC):
        sales.expire(payment)
    if tell:
        known = payment.status if payment.status != PaymentStatus.PENDING else status
        _tell_chat(payment, "checked", tell, status=known)
    elif payment.status not in sales.FINAL and datetime.now(UTC) < payment.expires_at + LOOK_AFTER_EXPIRY:
        _look_later(payment, min(LONGEST_LOOK_S, max(wait, 1.0) * 2))
    db.session.commit()


def _look_later(payment: Payment, seconds: float) -> None:
    # A look falls due when the code does, so that it expires on time.
    left = (payment.expires_at - datetime.now(UTC)).total_seconds()
    due = min(seconds, left + 1) if left > 0 else seconds
    job = Job(Name.LOOK, payment.seller_id, payment.trace_id, {"payment": payment.id, "wait": seconds})
    set_timer(sales.look_key(payment.id), job, due)
