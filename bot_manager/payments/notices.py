"""Gateways' notices: kept raw before they are answered, believed when signed, confirmed by query when not.

A signed "paid" settles inside the request, with the database alone. Everything else is a hint: a job asks the
gateway, and its answer settles. A notice that matches no charge is parked and tried again, since it may have
overtaken the answer that made the charge known.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

import gateways
from bot_manager import sales, timeline
from bot_manager.app import vault
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue, set_timer
from bot_manager.payments import charges
from bot_manager.payments.accounts import note_error, opened
from bot_manager.security import doors, events
from bot_manager.security.events import Kind
from gateways.base import Authenticity, Dispute, GatewayError, Notice, RawNotice, UnreadableNotice
from gateways.base import Gateway as Edge
from models import Base, ChargeAttempt, DoorKind, Gateway, ReceiptState, WebhookReceipt, db

logger = logging.getLogger(__name__)

PURPOSE = "webhook_receipt.body"
KEPT_HEADERS = frozenset({"content-type", "user-agent", "x-webhook-signature", "x-openpix-signature", "x-request-id"})
TRY_AGAIN_S = (3, 15, 60, 300, 1800, 7200, 21600)
LONGEST_PAUSE_S = 3600.0  # before a gateway that does not answer is asked again what a notice says

_OUTCOMES = {
    sales.Outcome.PAID: ReceiptState.SETTLED,
    sales.Outcome.REFUNDED: ReceiptState.SETTLED,
    sales.Outcome.DUPLICATE: ReceiptState.DUPLICATE,
    sales.Outcome.PAID_TWICE: ReceiptState.SETTLED,
    sales.Outcome.MISMATCH: ReceiptState.MISMATCH,
    sales.Outcome.NOT_PAID: ReceiptState.IGNORED,
}

# Built once, and on tables: a notice is settled inside the request, and the ORM's way to insert and update costs most.
_receipt = Base.metadata.tables["webhook_receipt"]
_gateway = Base.metadata.tables["gateway"]
_KEEP = (
    insert(_receipt)
    .on_conflict_do_update(
        index_elements=["gateway_id", "digest"],
        set_={"repeats": _receipt.c.repeats + 1, "last_at": func.now()},
    )
    .returning(_receipt.c.id, _receipt.c.state)
)
_GATEWAY = select(Gateway).where(Gateway.id == bindparam("id"))
# At most once in ten seconds: notices of one account would otherwise wait for each other's commit on its row.
_HEARD_FROM = (
    update(_gateway)
    .where(
        _gateway.c.id == bindparam("row"),
        or_(_gateway.c.last_notice_at.is_(None), _gateway.c.last_notice_at < func.now() - timedelta(seconds=10)),
    )
    .values(last_notice_at=func.now())
)
_NOTE = (
    update(_receipt)
    .where(_receipt.c.id == bindparam("row"))
    .values(
        state=bindparam("became"),
        note=bindparam("said"),
        payment_id=func.coalesce(bindparam("about"), _receipt.c.payment_id),
    )
)
_UNANSWERED = (
    update(_receipt)
    .where(_receipt.c.id == bindparam("row"))
    .values(tries=_receipt.c.tries + 1)
    .returning(_receipt.c.tries, _receipt.c.last_at > func.now() - charges.UNHEARD_FOR)
)


class NoSuchDoor(Exception):
    """The address has a wrong secret, or belongs to another kind of gateway."""

    permanent = True


class ForgedNotice(Exception):
    """The notice lacks the proof that its provider makes; it is kept, and never settles."""

    permanent = True


@dataclass(frozen=True, slots=True)
class Receipt:
    """A notice that is kept: its row, whose it is, and what it says."""

    id: int
    gateway: Gateway
    raw: RawNotice
    authenticity: Authenticity
    trace: str


def accept(kind: str, secret: str, raw: RawNotice, trace: str, *, later: bool = False) -> None:
    """Keeps the notice and acts on it; the caller commits, also when ForgedNotice is raised.

    later: it is only kept, and a job acts on it.
    Raises NoSuchDoor (nothing kept but a security event) and ForgedNotice (kept, flagged).
    """
    entry = doors.enter_by_secret(DoorKind.GATEWAY, secret)
    gateway = db.session.scalar(_GATEWAY, {"id": entry.object_id}) if entry else None
    if gateway is None or gateway.kind != kind:
        events.report(Kind.WRONG_WEBHOOK_SECRET, gateway_kind=kind)
        raise NoSuchDoor(kind)
    edge = gateways.get(kind)
    known = opened(gateway)
    authenticity = edge.verify(known, raw) if known else Authenticity.UNSIGNED
    for part in edge.split(raw):
        _accept(gateway, edge, part, authenticity, trace, later=later)
    if authenticity is Authenticity.FORGED:
        raise ForgedNotice(kind)


def _accept(
    gateway: Gateway, edge: Edge, raw: RawNotice, authenticity: Authenticity, trace: str, *, later: bool
) -> None:
    receipt, state = _keep(gateway, raw, authenticity, trace)
    if edge.keys_path and authenticity is not Authenticity.SIGNED:
        # Its keys are not known yet, or it may have changed them: asked for once, however many such notices come.
        set_timer(f"keys:{gateway.id}", _job(Name.FETCH_PUBLIC_KEYS, receipt, {"gateway": gateway.id}), 1)
    if authenticity is Authenticity.FORGED:
        _flag_forged(receipt)
    elif state in (ReceiptState.SETTLED, ReceiptState.DUPLICATE):
        return
    elif later:
        _park(receipt.id, receipt, "o aviso ainda não pôde ser tratado")
    else:
        _act(receipt)


def _keep(gateway: Gateway, raw: RawNotice, authenticity: Authenticity, trace: str) -> tuple[Receipt, str]:
    token = raw.query.get("t") or raw.query.get("", "")
    kept = {"body": raw.body.decode("latin-1"), "query": dict(raw.query), "flaw": raw.flaw}
    values: dict[str, Any] = {
        "seller_id": gateway.seller_id,
        "gateway_id": gateway.id,
        "digest": hashlib.sha256(raw.body + b"\0" + token.encode() + authenticity.encode()).hexdigest(),
        "body_sealed": vault().seal_json(kept, PURPOSE, gateway.seller_id),
        "headers": {name: value[:1000] for name, value in raw.headers.items() if name in KEPT_HEADERS},
        "authenticity": authenticity,
        "trace_id": trace,
    }
    row = db.session.execute(_KEEP, values).one()
    db.session.execute(_HEARD_FROM, {"row": gateway.id})
    return Receipt(row.id, gateway, raw, authenticity, trace), row.state


def _flag_forged(receipt: Receipt) -> None:
    _note(receipt.id, ReceiptState.FORGED, "a assinatura do aviso falta ou não confere")
    _report(Kind.FORGED_NOTICE, receipt)
    logger.warning("a notice without its proof", extra={"gateway": receipt.gateway.id})


def _report(kind: Kind, receipt: Receipt) -> None:
    about = {"gateway": receipt.gateway.id, "receipt": receipt.id}
    events.report(kind, receipt.gateway.seller_id, f"receipt {receipt.id}", **about)


def _act(receipt: Receipt) -> None:
    try:
        notice = _read(receipt)
    except UnreadableNotice as error:
        _note(receipt.id, ReceiptState.UNREADABLE, str(error))
        return
    found = _match(receipt, notice)
    if found is None and notice.dispute:
        _note(receipt.id, ReceiptState.MISMATCH, "uma contestação que não diz de que venda fala: veja no provedor")
    elif found is None and (notice.state or notice.provider_id or notice.reference):
        _park(receipt.id, receipt)  # also what only names a charge: it may have overtaken the answer that made it known
    elif found is None:
        _note(receipt.id, ReceiptState.IGNORED, notice.event or "sem cobrança")
    elif notice.test and not found.test:
        _note(receipt.id, ReceiptState.IGNORED, "aviso do ambiente de teste do provedor")
    else:
        _act_on(receipt, notice, found)


def _read(receipt: Receipt) -> Notice:
    """Raises UnreadableNotice."""
    if receipt.raw.flaw:
        raise UnreadableNotice(receipt.raw.flaw)
    return gateways.get(receipt.gateway.kind).parse_notice(receipt.raw)


def _match(receipt: Receipt, notice: Notice) -> sales.Match | None:
    reference = notice.reference or receipt.raw.query.get("t")
    found = sales.match(receipt.gateway.id, reference, notice.provider_id, notice.payment_id)
    if found is None and (notice.state or notice.dispute) and notice.end_to_end_id:
        return sales.match_transfer(receipt.gateway.id, notice.end_to_end_id)
    return found


def _act_on(receipt: Receipt, notice: Notice, found: sales.Match) -> None:
    if sales.contradicts(receipt.gateway.id, found, notice.provider_id):
        _refuse(receipt, found, "o aviso fala de duas cobranças diferentes")
        return
    if notice.dispute:
        _tell_of_dispute(receipt, notice.dispute, found)
    if receipt.authenticity is Authenticity.SIGNED and notice.state is not None:
        outcome = sales.settle(receipt.gateway.id, found, notice.state)
        _conclude(receipt, found, outcome)
    else:
        _note(receipt.id, ReceiptState.CONFIRMING, notice.event or None, found.payment_id)
        args = {"receipt": receipt.id, "attempt": found.attempt_id, "provider_id": notice.provider_id}
        enqueue(_job(Name.CONFIRM, receipt, args))


def _tell_of_dispute(receipt: Receipt, dispute: Dispute, found: sales.Match) -> None:
    """In the sale's timeline, once. What became of the money is another notice's, or the query's, to say."""
    kind = f"dispute_{dispute.state}"
    if timeline.told(found.payment_id, kind, dispute=dispute.id):
        return
    days = gateways.get(receipt.gateway.kind).defence_days
    due_at = dispute.due_at or (dispute.opened_at or datetime.now(UTC)) + timedelta(days=days)
    data = {"dispute": dispute.id, "gateway": receipt.gateway.id, "reason": dispute.reason}
    timeline.add(found.seller_id, found.payment_id, kind, **data, due_at=due_at.isoformat())
    logger.error("a dispute", extra={"payment": found.payment_id, "state": dispute.state})


def _conclude(receipt: Receipt, found: sales.Match, outcome: sales.Outcome) -> None:
    if outcome is sales.Outcome.MISMATCH:
        _refuse(receipt, found, "o valor ou a moeda não é o da venda")
    else:
        _note(receipt.id, _OUTCOMES[outcome], outcome, found.payment_id)


def _refuse(receipt: Receipt, found: sales.Match, why: str) -> None:
    """Authentic is not valid: kept, shown, told to the operator, never paid."""
    _note(receipt.id, ReceiptState.MISMATCH, why, found.payment_id)
    timeline.add(found.seller_id, found.payment_id, "mismatch", receipt=receipt.id, why=why)
    _report(Kind.NOTICE_MISMATCH, receipt)
    logger.error("a notice does not fit its sale", extra={"receipt": receipt.id, "payment": found.payment_id})


def confirm(receipt: int, attempt: int, provider_id: str | None) -> None:
    """Asks the gateway what an unsigned notice only hinted at, and settles on the answer."""
    if db.session.get_one(WebhookReceipt, receipt).state != ReceiptState.CONFIRMING:
        return  # another run has its answer
    row = db.session.get_one(ChargeAttempt, attempt)
    kept = _open(receipt)
    about = charges.question(row, provider_id)
    db.session.commit()
    if about is None:
        _note(receipt, ReceiptState.PARKED, "o aviso não diz de que cobrança fala")
        db.session.commit()
        return
    try:
        answer = charges.ask(about)
    except GatewayError as error:
        note_error(about.gateway_id, str(error))
        _ask_later(kept, {"receipt": receipt, "attempt": attempt, "provider_id": provider_id})
        db.session.commit()
        return
    _settle_answer(kept, about, answer)
    db.session.commit()


def _ask_later(kept: Receipt, args: dict[str, Any]) -> None:
    """Ever less often, for as long as charges are looked at; then the notice is parked, and shown."""
    tries, in_time = db.session.execute(_UNANSWERED, {"row": kept.id}).one()
    if in_time:
        set_timer(f"confirm:{kept.id}", _job(Name.CONFIRM, kept, args), min(LONGEST_PAUSE_S, 2.0 ** min(tries, 20)))
    else:
        _note(kept.id, ReceiptState.PARKED, "o provedor não respondeu sobre a cobrança")


def _settle_answer(kept: Receipt, about: charges.Question, answer: Any) -> None:
    found = sales.match(about.gateway_id, about.reference, about.provider_id or None, None)
    if found is None or answer is None:
        _park(kept.id, kept)  # not known yet is not a no: it is asked again
    elif sales.contradicts(about.gateway_id, found, about.provider_id or None):
        _refuse(kept, found, "o aviso fala de duas cobranças diferentes")
    else:
        _conclude(kept, found, sales.settle(about.gateway_id, found, answer))


def rematch(receipt: int) -> None:
    """Tries a parked notice again; after the last try it stays parked, and shown."""
    kept = _open(receipt)
    if db.session.get_one(WebhookReceipt, receipt).state == ReceiptState.PARKED:
        _act(kept)
    db.session.commit()


def try_again(receipt_id: int) -> bool:
    """Has a notice that led nowhere looked at again, by a job; False when it is no such notice. The caller commits.

    A forged one stays unproven: what it says is only asked of its gateway.
    """
    dead = ReceiptState.UNREADABLE, ReceiptState.MISMATCH, ReceiptState.PARKED, ReceiptState.FORGED
    parked = update(WebhookReceipt).where(WebhookReceipt.id == receipt_id, WebhookReceipt.state.in_(dead))
    parked = parked.values(state=ReceiptState.PARKED, tries=0, last_at=func.now())
    row = db.session.execute(parked.returning(WebhookReceipt.seller_id, WebhookReceipt.trace_id)).one_or_none()
    if row:
        enqueue(Job(Name.REMATCH, row.seller_id, row.trace_id, {"receipt": receipt_id}))
    return row is not None


def _park(receipt_id: int, receipt: Receipt, why: str = "não corresponde a nenhuma cobrança conhecida") -> None:
    counted = update(WebhookReceipt).where(WebhookReceipt.id == receipt_id)
    tries = db.session.execute(
        counted.values(tries=WebhookReceipt.tries + 1).returning(WebhookReceipt.tries)
    ).scalar_one()
    _note(receipt_id, ReceiptState.PARKED, why)
    if tries <= len(TRY_AGAIN_S):
        job = _job(Name.REMATCH, receipt, {"receipt": receipt_id})
        set_timer(f"rematch:{receipt_id}", job, TRY_AGAIN_S[tries - 1])


def _open(receipt_id: int) -> Receipt:
    row = db.session.get_one(WebhookReceipt, receipt_id)
    gateway = db.session.get_one(Gateway, row.gateway_id)
    kept = vault().open_json(row.body_sealed, PURPOSE, row.seller_id)
    raw = RawNotice(kept["body"].encode("latin-1"), row.headers, kept["query"], kept.get("flaw", ""))
    return Receipt(row.id, gateway, raw, Authenticity(row.authenticity), row.trace_id)


def _note(receipt_id: int, state: ReceiptState, note: str | None, payment_id: int | None = None) -> None:
    said = note and note[:300]
    db.session.execute(_NOTE, {"row": receipt_id, "became": state, "said": said, "about": payment_id})


def _job(name: Name, receipt: Receipt, args: dict[str, Any]) -> Job:
    return Job(name, receipt.gateway.seller_id, receipt.trace, args)
