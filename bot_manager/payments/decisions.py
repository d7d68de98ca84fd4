"""Whom to ask for a sale's PIX code, in which order, and why: taken and written down in one transaction.

Those that are well come first, in the selector's order; one whose breaker is due is among them, since its turn is its
probe. Those that are left alone come last, the one that is due soonest before the others: a sale is never refused
because of a breaker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

import gateways
from bot_manager.payments import breakers
from gateways import breaker, selector
from gateways.base import Gateway, Payer, PayerField
from gateways.breaker import Breaker, State
from gateways.selector import Candidate
from models import Base, Payment, db


class Verdict(StrEnum):
    """What a decision makes of one account. Kept: a word stays what it means."""

    FIT = "fit"
    DUE = "due"  # left alone until now: whoever asks first probes it
    PAUSED = "paused"  # left alone, asked only when nobody else will
    OFF = "off"  # by the seller
    BELOW_MINIMUM = "below_minimum"
    LACKS_PAYER = "lacks_payer"  # wants to know more of the buyer than they told
    UNKNOWN = "unknown"  # this program does not know its kind


@dataclass(frozen=True, slots=True)
class Choice:
    """An account to ask. paused: only because nobody else would."""

    gateway_id: int
    verdict: Verdict

    @property
    def paused(self) -> bool:
        return self.verdict is Verdict.PAUSED


@dataclass(frozen=True, slots=True)
class Seen:
    """One account, as it was found. needs: what it wants to know of the payer."""

    candidate: Candidate
    breaker: Breaker
    verdict: Verdict
    needs: frozenset[PayerField] = frozenset()

    def row(self) -> dict[str, Any]:
        plain = {"gateway": self.candidate.id, "priority": self.candidate.priority, "weight": self.candidate.weight}
        if self.breaker.open_until is None:
            return {**plain, "verdict": self.verdict}
        why = {"failures": self.breaker.failures, "open_until": self.breaker.open_until.isoformat()}
        return {**plain, "verdict": self.verdict, **why}


_gateway = Base.metadata.tables["gateway"]
_decision = Base.metadata.tables["decision"]
_turn = Base.metadata.tables["turn"]
_ACCOUNTS = (
    select(_gateway.c.id, _gateway.c.kind, _gateway.c.priority, _gateway.c.weight, _gateway.c.active, *breakers.COLUMNS)
    .where(_gateway.c.archived_at.is_(None))
    .order_by(_gateway.c.id)
)
_TAKE_TURN = (
    upsert(_turn)
    .values(seller_id=bindparam("seller_id"), among=bindparam("among"), taken=1)
    .on_conflict_do_update(index_elements=["seller_id", "among"], set_={"taken": _turn.c.taken + 1})
    .returning(_turn.c.taken - 1)
)
_LAST_TURN = (
    select(_decision.c.turn)
    .where(_decision.c.payment_id == bindparam("payment_id"))
    .order_by(_decision.c.id.desc())
    .limit(1)
)
_WRITE = insert(_decision)


def decide(payment: Payment, payer: Payer) -> list[Choice]:
    """Takes this sale's turn and writes the decision, in the caller's transaction."""
    seen = look(payment.test, payment.amount_cents, payer, datetime.now(UTC))
    tier = selector.first_tier(_well(seen))
    turn = _turn_of(payment, tier)
    asked = order(seen, turn)
    row = {
        "seller_id": payment.seller_id,
        "payment_id": payment.id,
        "turn": turn,
        "round": selector.turns(tier),
        "candidates": [one.row() for one in seen],
        "asks": [choice.gateway_id for choice in asked],
    }
    db.session.execute(_WRITE, row)
    return asked


def needs(test: bool, amount_cents: int, payer: Payer, now: datetime) -> frozenset[PayerField]:
    """What is wanted of the payer so that anybody charges at all; nothing where somebody would."""
    seen = look(test, amount_cents, payer, now)
    if order(seen, 0):
        return frozenset()
    wanting = [one for one in seen if one.verdict is Verdict.LACKS_PAYER]
    first = min(wanting, key=lambda one: (one.candidate.priority, one.candidate.id), default=None)
    return first.needs if first else frozenset()


def look(test: bool, amount_cents: int, payer: Payer, now: datetime) -> list[Seen]:
    """Every account that could be meant: test sales are the sandbox's, real ones never are."""
    known = gateways.all_gateways()
    found = []
    for row in db.session.execute(_ACCOUNTS).mappings():
        edge = known.get(row["kind"])
        if edge is not None and edge.test_only != test:
            continue
        held = breakers.read(row)
        verdict = _verdict(row["active"], edge, amount_cents, payer, breaker.state(held, now))
        candidate = Candidate(row["id"], row["priority"], row["weight"], verdict in (Verdict.FIT, Verdict.DUE))
        found.append(Seen(candidate, held, verdict, edge.payer_needs if edge else frozenset()))
    return found


def order(seen: Iterable[Seen], turn: int) -> list[Choice]:
    """Those that are well by their turn, then those that are left alone, soonest due first."""
    by_id = {one.candidate.id: one for one in seen}
    well = [by_id[candidate.id] for candidate in selector.order(_well(by_id.values()), turn)]
    paused = sorted((one for one in by_id.values() if one.verdict is Verdict.PAUSED), key=_least_bad)
    return [Choice(one.candidate.id, one.verdict) for one in [*well, *paused]]


def _well(seen: Iterable[Seen]) -> list[Candidate]:
    return [one.candidate for one in seen if one.candidate.active]


def _least_bad(one: Seen) -> tuple[Any, ...]:
    return one.breaker.open_until, one.candidate.priority, one.candidate.id


def _verdict(active: bool, edge: Gateway | None, amount_cents: int, payer: Payer, state: State) -> Verdict:
    if edge is None:
        return Verdict.UNKNOWN
    if not active:
        return Verdict.OFF
    if amount_cents < edge.minimum_cents:
        return Verdict.BELOW_MINIMUM
    if payer.lacks(edge.payer_needs):
        return Verdict.LACKS_PAYER
    if state is State.DUE:
        return Verdict.DUE
    return Verdict.FIT if state is State.CLOSED else Verdict.PAUSED


def _turn_of(payment: Payment, tier: Sequence[Candidate]) -> int:
    """A run that died has taken its sale's turn already; one alone has nobody to take turns with."""
    taken = db.session.scalar(_LAST_TURN, {"payment_id": payment.id})
    if taken is not None:
        return int(taken)
    if len(tier) < 2:
        return 0
    among = " ".join(f"{one.id}:{one.weight}" for one in tier)
    return int(db.session.execute(_TAKE_TURN, {"seller_id": payment.seller_id, "among": among}).scalar_one())
