"""Why a sale was charged where it was, in the seller's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

import gateways
from bot_manager.payments.decisions import Verdict
from gateways.breaker import OPENS_AFTER
from models import AttemptState, ChargeAttempt, Decision, Gateway, Payment, db
from web.panel.format import money
from web.panel.lookup import account_name

_CAME_OF_IT: Mapping[str, str] = {
    AttemptState.SENDING: "Está gerando o PIX.",
    AttemptState.MADE: "Gerou o PIX.",
    AttemptState.PAID: "Gerou o PIX, que foi pago.",
    AttemptState.REFUSED: "Recusou.",
    AttemptState.UNREACHABLE: "Não respondeu.",
    AttemptState.UNKNOWN: "Não deu uma resposta que servisse; se o PIX existir, o pagamento será reconhecido.",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One account, the place it was given and what came of it."""

    name: str
    sentence: str


def reasons(payment: Payment, attempts: Iterable[ChargeAttempt]) -> list[Reason]:
    """Of the last decision, those to ask in their order and then the others; empty before there is one."""
    made = select(Decision).where(Decision.payment_id == payment.id).order_by(Decision.id.desc()).limit(1)
    decision = db.session.scalar(made)
    if decision is None or payment.test:
        return []
    accounts = {account.id: account for account in db.session.scalars(select(Gateway))}
    states = {attempt.gateway_id: attempt.state for attempt in attempts if attempt.started_at >= decision.at}
    told = {one["gateway"]: one for one in decision.candidates}
    others = [number for number in told if number not in decision.asks]
    return [
        Reason(account_name(accounts[number]), " ".join(_sentences(decision, told[number], accounts[number], states)))
        for number in [*decision.asks, *others]
    ]


def _sentences(
    decision: Decision, one: Mapping[str, Any], account: Gateway, states: Mapping[int, str]
) -> Iterator[str]:
    if account.id not in decision.asks:
        yield _left_out(one["verdict"], account)
        return
    yield f"{decision.asks.index(account.id) + 1}º: {_place(decision, one)}."
    if account.id in states:
        yield _CAME_OF_IT.get(states[account.id], states[account.id])
    elif _passed_by(decision, account.id, states):
        yield "Não foi pedido: outra venda o testava naquele momento."


def _place(decision: Decision, one: Mapping[str, Any]) -> str:
    row = _held_against(one.get("failures", 0))
    if one["verdict"] == Verdict.PAUSED:
        return f"em pausa por {row}; só se nenhum outro gerar"
    if one["verdict"] == Verdict.DUE:
        return f"em teste depois de {row}"
    if one["gateway"] != decision.asks[0]:
        return "na reserva, se o anterior falhar"
    if decision.round > 1:
        return f"era a vez dele ({decision.turn % decision.round + 1} de {decision.round})"
    return "o primeiro da fila"


def _held_against(failures: int) -> str:
    return f"{failures} falhas seguidas" if failures >= OPENS_AFTER else "falhar metade das vezes"


def _left_out(verdict: str, account: Gateway) -> str:
    if verdict == Verdict.BELOW_MINIMUM:
        edge = gateways.all_gateways().get(account.kind)
        return f"De fora: o valor está abaixo do mínimo dele{f', {money(edge.minimum_cents)}' if edge else ''}."
    if verdict == Verdict.LACKS_PAYER:
        return "De fora: pede dados do pagador que o comprador não informou."
    if verdict == Verdict.OFF:
        return "De fora: desligado."
    return "De fora: o programa não conhece mais este provedor."


def _passed_by(decision: Decision, number: int, states: Mapping[int, str]) -> bool:
    """Whether one that comes after it was asked, and it was not."""
    return any(later in states for later in decision.asks[decision.asks.index(number) + 1 :])
