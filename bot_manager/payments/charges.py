"""Asking gateways: make a charge at the first that will, and look again whether one is paid.

These are jobs, and no transaction is open while a gateway is asked: facts are read and committed before, the outcome
is written after.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import case, func, select, update
from sqlalchemy.exc import IntegrityError

import gateways
from bot_manager import sales, timeline
from bot_manager.addresses import get_webhook_url
from bot_manager.app import settings
from bot_manager.bots import inbox
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue, set_timer
from bot_manager.payments import breakers, decisions, payers
from bot_manager.payments.accounts import UNOPENED, account, note_error, opened
from bot_manager.payments.decisions import Choice, Verdict
from bot_manager.security.vault import CannotOpen
from gateways.base import (
    Account,
    BadGatewayAnswer,
    Charge,
    ChargeRequest,
    ChargeState,
    GatewayError,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnreachable,
    Payer,
)
from gateways.selector import patience
from models import AttemptState, Bot, ChargeAttempt, Customer, Gateway, Payment, PaymentStatus, db

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0  # what a customer waits for a code in all
LEAST_TRY_S = 1.0  # with less left nobody else is asked
PROBE_S = 2.5  # what a gateway gets that may still be down, when there are others
CLAIM = timedelta(seconds=15)  # longer than PATIENCE_S: a claim that old belongs to the dead
FIRST_LOOK_S = {True: 120.0, False: 20.0}  # whether notices can reach us
LONGEST_LOOK_S = 900.0
LOOK_AFTER_EXPIRY = timedelta(hours=1)
CODES_LIVE = timedelta(hours=24)  # at providers that do not say how long, or do not end them when we ask
UNHEARD_FOR = timedelta(days=3)  # for so long a gateway that does not answer is asked on

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
    """One attempt, ready to be made outside of any transaction. account: None when its credentials do not open."""

    attempt_id: int
    gateway_id: int
    kind: str
    account: Account | None
    request: ChargeRequest
    probe: bool = False


# Charge -----------------------------------------------------------------------------------------------------------


def charge(payment: int) -> None:
    """Makes the PIX code of a new payment at the first gateway that will, within the customer's patience.

    Each try gets a share of what is left of it, so that one that hangs leaves the next a fair try.
    """
    deadline = time.monotonic() + PATIENCE_S
    chosen = _start(payment)
    if chosen is None:
        return
    waiting = deque(chosen)
    while waiting and (left := deadline - time.monotonic()) >= LEAST_TRY_S:
        choice = waiting.popleft()
        attempt = _begin(payment, choice)
        if attempt is None:  # another sale probes it just now: asked again only if nobody else will
            waiting.append(replace(choice, verdict=Verdict.PAUSED))
        elif _try(payment, attempt, _seconds(left, attempt.probe, waiting)):
            break
    _give_up_unless_shown(payment)


def _start(payment_id: int) -> list[Choice] | None:
    """Takes the payment for this run and decides whom to ask; None when it needs no code any more. Raises Busy."""
    payment = db.session.get(Payment, payment_id, with_for_update={"key_share": True})
    if payment is None or payment.status != PaymentStatus.NEW:
        return None
    if payment.claimed_at and (rest := payment.claimed_at + CLAIM - datetime.now(UTC)) > timedelta(0):
        raise Busy(f"{payment.payment_id} is being charged", rest.total_seconds())
    payment.claimed_at = datetime.now(UTC)
    # An attempt left by a run that died may have made a charge. Its code was never shown, so another may be made
    # without any risk of the customer paying both; a notice for it still settles.
    left = ChargeAttempt.payment_id == payment_id, ChargeAttempt.state == AttemptState.SENDING
    db.session.execute(update(ChargeAttempt).where(*left).values(state=AttemptState.UNKNOWN))
    chosen = decisions.decide(payment, _payer(payment))
    db.session.commit()
    return chosen


def _payer(payment: Payment) -> Payer:
    return payers.of(db.session.get_one(Customer, payment.customer_id))


def _seconds(left: float, probe: bool, waiting: Collection[Choice]) -> float:
    """Those that are left alone want one try together: they must not make a good one look slow."""
    others = sum(not choice.paused for choice in waiting) + any(choice.paused for choice in waiting)
    seconds = min(left, max(LEAST_TRY_S, patience(left, others)))
    return min(seconds, PROBE_S) if probe and waiting else seconds


def _begin(payment_id: int, choice: Choice) -> Try | None:
    """None when the gateway is being probed by another sale."""
    probe = choice.verdict is Verdict.DUE
    if probe and not breakers.take_probe(choice.gateway_id):
        db.session.rollback()
        return None
    payment = db.session.get_one(Payment, payment_id)
    gateway = db.session.get_one(Gateway, choice.gateway_id)
    bot = db.session.get_one(Bot, payment.bot_id)
    attempt = ChargeAttempt(seller_id=payment.seller_id, payment_id=payment.id, gateway_id=gateway.id)
    db.session.add(attempt)
    db.session.flush()
    known, url = _opened(gateway)
    request = ChargeRequest(
        payment_id=payment.payment_id,
        reference=payment.webhook_token,
        amount_cents=payment.amount_cents,
        description=payment.offer_name,
        notice_url=f"{url}?t={payment.webhook_token}",
        expires_in=bot.pix_minutes * 60,
        payer=_payer(payment),
    )
    ready = Try(attempt.id, gateway.id, gateway.kind, known, request, probe)
    db.session.commit()
    return ready


def _try(payment_id: int, attempt: Try, seconds: float) -> bool:
    """True when there is nothing more to try: a code was made, or the payment needs none any more."""
    try:
        made = _ask_for_charge(attempt, seconds)
        _keep_charge(payment_id, attempt, made)
    except GatewayError as error:
        _keep_failure(payment_id, attempt, error)
        return False
    return True


def _opened(gateway: Gateway) -> tuple[Account | None, str]:
    """The account and where its notices go."""
    try:
        return account(gateway), get_webhook_url(gateway)
    except CannotOpen:
        return None, ""


def _ask_for_charge(attempt: Try, seconds: float) -> Charge:
    if attempt.account is None:
        raise GatewayMisconfigured(UNOPENED)
    with _its_own_bugs(attempt.gateway_id):
        return gateways.get(attempt.kind).create_charge(attempt.account, attempt.request, seconds)


@contextmanager
def _its_own_bugs(gateway_id: int) -> Iterator[None]:
    """A bug in one provider's file costs that provider the sale, not the seller. Raises GatewayError."""
    try:
        yield
    except GatewayError:
        raise
    except Exception:
        logger.exception("a gateway's file broke", extra={"gateway": gateway_id})
        raise BadGatewayAnswer("the answer could not be read") from None


# What is written after a try takes its rows in the order in which a notice does: gateway, payment, attempt.


def _keep_failure(payment_id: int, attempt: Try, error: GatewayError) -> None:
    state = _ATTEMPT_STATE.get(type(error), AttemptState.UNKNOWN)
    breakers.failed(attempt.gateway_id, error, probe=attempt.probe)
    payment = db.session.get_one(Payment, payment_id)
    data = {"gateway": attempt.gateway_id, "state": state, "error": str(error)}
    timeline.add(payment.seller_id, payment_id, "gateway_failed", **data)
    _end_attempt(attempt, state, error=str(error)[:300])
    db.session.commit()
    logger.warning("a gateway made no charge", extra={"gateway": attempt.gateway_id, "state": state})


def _keep_charge(payment_id: int, attempt: Try, made: Charge) -> None:
    """Raises BadGatewayAnswer, with nothing written, when the charge is another sale's."""
    breakers.succeeded(attempt.gateway_id)
    expires_at = datetime.now(UTC) + timedelta(seconds=attempt.request.expires_in)
    if sales.show(payment_id, attempt.gateway_id, made.pix_code, expires_at):
        payment = db.session.get_one(Payment, payment_id)
        timeline.add(payment.seller_id, payment.id, "charged", gateway=attempt.gateway_id)
        _tell_chat(payment, "pix_ready", f"{attempt.attempt_id}")
        _look_later(payment, FIRST_LOOK_S[settings().public_url is not None])
    try:
        _end_attempt(attempt, AttemptState.MADE, provider_id=made.provider_id)
    except IntegrityError:  # one id of one account is one charge's
        db.session.rollback()
        raise BadGatewayAnswer("the charge it answered with is another sale's") from None
    db.session.commit()


def _end_attempt(attempt: Try, state: AttemptState, **values: str) -> None:
    """Its notice may have overtaken the answer: then the state stays as it is."""
    row = update(ChargeAttempt).where(ChargeAttempt.id == attempt.attempt_id)
    became = case((ChargeAttempt.state == AttemptState.SENDING, state), else_=ChargeAttempt.state)
    db.session.execute(row.values(state=became, ended_at=func.now(), **values))


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
    status, heard = "unknown", True
    askable = _askable(payment)
    for about in askable:
        try:
            status = _ask_and_settle(about) or status
        except GatewayError as error:
            heard = False
            note_error(about.gateway_id, str(error))
            db.session.commit()
        if status == PaymentStatus.PAID:
            break
    _after_look(payment, wait, tell, status if askable else PaymentStatus.PENDING, heard)


def look_at(attempt: int) -> None:
    """The same for one attempt, when it may have been paid while nobody worked here. Raises GatewayError."""
    payment = db.session.get_one(ChargeAttempt, attempt).payment_id
    for about in _askable(payment):
        if about.attempt_id == attempt:
            _ask_and_settle(about)
    _after_look(payment, LONGEST_LOOK_S, None, PaymentStatus.PENDING)


def ask_for(payment: Payment, question: str) -> None:
    """A customer says that they paid: looks now, and answers."""
    args = {"payment": payment.id, "tell": question}
    enqueue(Job(Name.LOOK, payment.seller_id, payment.trace_id, args))


@dataclass(frozen=True, slots=True)
class Question:
    """What is needed to ask one gateway about one attempt. account: None when its credentials do not open."""

    attempt_id: int
    gateway_id: int
    kind: str
    account: Account | None
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
    return Question(attempt.id, gateway.id, gateway.kind, opened(gateway), asked or "", payment.webhook_token)


def ask(about: Question) -> ChargeState | None:
    """The gateway's answer. Raises GatewayError."""
    if about.account is None:
        raise GatewayMisconfigured(UNOPENED)
    with _its_own_bugs(about.gateway_id):
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


def _ask_and_settle(about: Question) -> str | None:
    """The payment's status by the gateway's answer; None when it does not know the charge. Raises GatewayError."""
    state = ask(about)
    if state is None:
        return None
    found = sales.match(about.gateway_id, about.reference, about.provider_id or state.provider_id, None)
    outcome = sales.settle(about.gateway_id, found, state) if found else None
    db.session.commit()
    return PaymentStatus.PAID if outcome in (sales.Outcome.PAID, sales.Outcome.DUPLICATE) else PaymentStatus.PENDING


def _after_look(payment_id: int, wait: float, tell: str | None, status: str, heard: bool = True) -> None:
    payment = db.session.get_one(Payment, payment_id, populate_existing=True)
    if payment.status in sales.LIVE and payment.expires_at <= datetime.now(UTC):
        sales.expire(payment)
    if tell:
        known = payment.status if payment.status != PaymentStatus.PENDING else status
        _tell_chat(payment, "checked", tell, status=known)
    elif payment.status not in sales.FINAL and (seconds := _next_look(payment, wait, heard)):
        _look_later(payment, seconds)
    db.session.commit()


def _next_look(payment: Payment, wait: float, heard: bool) -> float | None:
    """In how many seconds: ever less often, and a last time when the code can't be paid any longer."""
    now = datetime.now(UTC)
    if now < payment.expires_at + (LOOK_AFTER_EXPIRY if heard else UNHEARD_FOR):
        return min(LONGEST_LOOK_S, max(wait, 1.0) * 2)
    left = (payment.created_at + CODES_LIVE - now).total_seconds()
    return left if left > 0 and not payment.test else None


def _look_later(payment: Payment, seconds: float) -> None:
    # A look falls due when the code does, so that it expires on time.
    left = (payment.expires_at - datetime.now(UTC)).total_seconds()
    due = min(seconds, left + 1) if left > 0 else seconds
    job = Job(Name.LOOK, payment.seller_id, payment.trace_id, {"payment": payment.id, "wait": seconds})
    set_timer(sales.look_key(payment.id), job, due)
