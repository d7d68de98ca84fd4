"""One sale's story, from the click to the ad's measurement, out of the rows that each stage wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from models import (
    AttemptState,
    ChargeAttempt,
    Click,
    Conversion,
    Customer,
    Delivery,
    DeliveryState,
    Destination,
    Gateway,
    Payment,
    PaymentEvent,
    PaymentStatus,
    WebhookReceipt,
    db,
)
from web.panel.access import here
from web.panel.format import moment, money
from web.panel.lookup import account_name
from web.panel.states import CONVERSION, DELIVERY, RECEIPT, Word, word


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. note: more of it, in the seller's words."""

    at: datetime
    icon: str
    word: Word
    note: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """steps: oldest first. waits_for: what comes next, while the sale goes on. The rest is for the details."""

    steps: list[Step]
    waits_for: str | None
    click: Click | None
    attempts: list[tuple[ChargeAttempt, str]]
    receipts: list[WebhookReceipt]


# What `bot_manager.sales` and its neighbours write. The icon, the words, and what of the event's data to show.
_EVENTS: Mapping[str, tuple[str, Word]] = {
    "opened": ("shopping-cart", Word("Pedido feito", "info")),
    "charged": ("qrcode", Word("PIX gerado", "info")),
    "code_sent": ("send", Word("Código enviado na conversa", "info")),
    "gateway_failed": ("alert-triangle", Word("Um recebimento não gerou o PIX", "warn")),
    "failed": ("circle-x", Word("Nenhum recebimento gerou o PIX", "bad")),
    "expired": ("clock", Word("O PIX venceu sem pagamento", "quiet")),
    "cancelled": ("circle-x", Word("Cancelado", "quiet")),
    "paid": ("circle-check", Word("Pago", "ok")),
    "paid_twice": ("alert-triangle", Word("Pago duas vezes: devolva um dos pagamentos", "bad")),
    "mismatch": ("alert-triangle", Word("Valor diferente do pedido: não contamos como pago", "bad")),
    "charge_refunded": ("arrow-back-up", Word("Um PIX devolvido; a venda continua", "quiet")),
    "refunded": ("arrow-back-up", Word("Devolvido ao cliente", "quiet")),
    "refunded_in_part": ("arrow-back-up", Word("Uma parte devolvida; a venda continua", "quiet")),
    "dispute_opened": ("alert-triangle", Word("Contestado pelo pagador", "bad")),
    "dispute_won": ("circle-check", Word("Contestação encerrada a seu favor", "ok")),
    "dispute_lost": ("circle-x", Word("Contestação perdida: o dinheiro volta ao pagador", "bad")),
    "dispute_cancelled": ("circle-check", Word("Contestação cancelada", "quiet")),
    "entered": ("circle-check", Word("Entrou no grupo", "ok")),
    "access_ended": ("clock", Word("Saiu do grupo: o acesso terminou", "quiet")),
}
# Deliveries and conversions have rows of their own, which tell more.
_TOLD_BY_ROWS = {"delivered", "delivery_failed", "delivery_skipped", "reported", "report_failed"}
_NEXT: Mapping[str, str] = {
    PaymentStatus.NEW: "Gerando o PIX",
    PaymentStatus.PENDING: "Esperando o pagamento",
}
_ATTEMPTS: Mapping[str, Word] = {
    AttemptState.SENDING: Word("Pedindo o PIX ao recebimento", "info"),
    AttemptState.MADE: Word("PIX gerado", "info"),
    AttemptState.REFUSED: Word("O recebimento recusou gerar o PIX", "warn"),
    AttemptState.UNREACHABLE: Word("O recebimento não respondeu", "warn"),
    AttemptState.UNKNOWN: Word("Sem resposta do recebimento; se o PIX existir, o pagamento será reconhecido", "warn"),
    AttemptState.PAID: Word("PIX pago", "ok"),
    AttemptState.REFUNDED: Word("PIX pago e devolvido", "quiet"),
}


def of(payment: Payment, customer: Customer) -> Story:
    gateways = {gateway.id: account_name(gateway) for gateway in db.session.scalars(select(Gateway))}
    click = _click(payment)
    attempts = _of(ChargeAttempt, payment)
    receipts = _of(WebhookReceipt, payment)
    events = _of(PaymentEvent, payment)
    steps = [
        *_start(payment, customer, click, opened=any(event.kind == "opened" for event in events)),
        *(_event(event, payment, gateways) for event in events if event.kind not in _TOLD_BY_ROWS),
        *_untold(attempts, events, gateways),
        *(_receipt(receipt) for receipt in receipts),
        *(_delivery(delivery, payment) for delivery in _of(Delivery, payment)),
        *_conversions(payment),
    ]
    told = [(attempt, gateways.get(attempt.gateway_id, "")) for attempt in attempts]
    return Story(sorted(steps, key=lambda step: step.at), _NEXT.get(payment.status), click, told, receipts)


def _of(model: Any, payment: Payment) -> list[Any]:
    return list(db.session.scalars(select(model).where(model.payment_id == payment.id).order_by(model.id)))


def _click(payment: Payment) -> Click | None:
    if payment.tracking_token is None:
        return None
    return db.session.scalar(select(Click).where(Click.tracking_token == payment.tracking_token))


def _start(payment: Payment, customer: Customer, click: Click | None, opened: bool) -> Iterator[Step]:
    if click:
        source = " · ".join(str(click.params[key]) for key in ("utm_source", "utm_campaign") if click.params.get(key))
        yield Step(click.at, "click", Word("Clique no anúncio", "info"), source)
    if customer.started_at <= payment.created_at:
        yield Step(customer.started_at, "message-circle", Word("Começou a conversa", "info"))
    if not opened:
        yield Step(payment.created_at, *_EVENTS["opened"], payment.offer_name)


def _event(event: PaymentEvent, payment: Payment, gateways: Mapping[int, str]) -> Step:
    icon, words = _EVENTS.get(event.kind, ("info-circle", word({}, event.kind)))
    if event.kind == "opened":
        return Step(event.at, icon, words, f"{payment.offer_name}, {money(payment.amount_cents)}")
    name = gateways.get(event.data.get("gateway") or 0, "")
    if event.kind == "refunded_in_part":
        return Step(event.at, icon, words, f"{money(event.data['amount_cents'])} ao todo")
    if event.kind == "dispute_opened":
        due = datetime.fromisoformat(event.data["due_at"])
        return Step(event.at, icon, words, f"{name}: responda no painel do provedor até {moment(due, here())}")
    told = [name, str(event.data.get("error") or event.data.get("why") or "")]
    return Step(event.at, icon, words, ": ".join(part for part in told if part))


def _untold(attempts: list[ChargeAttempt], events: list[PaymentEvent], gateways: Mapping[int, str]) -> Iterator[Step]:
    """The attempts of which no event speaks yet."""
    told = {event.data.get("gateway") for event in events if event.kind in ("charged", "gateway_failed", "paid")}
    for attempt in attempts:
        if attempt.gateway_id not in told:
            name = gateways.get(attempt.gateway_id, "")
            yield Step(attempt.started_at, "qrcode", word(_ATTEMPTS, attempt.state), name)


def _receipt(receipt: WebhookReceipt) -> Step:
    again = f"chegou {receipt.repeats + 1} vezes" if receipt.repeats else ""
    return Step(receipt.received_at, "building-bank", word(RECEIPT, receipt.state), again)


def _delivery(delivery: Delivery, payment: Payment) -> Step:
    done = delivery.state == DeliveryState.DELIVERED
    what = payment.items[delivery.item].get("kind") if delivery.item < len(payment.items) else None
    named = {"link": "Link de acesso", "group": "Convite do grupo"}.get(str(what), "")
    note = " · ".join(part for part in (named, delivery.note) if part)
    icon = "package" if done else "hourglass"
    return Step(delivery.delivered_at or delivery.created_at, icon, word(DELIVERY, delivery.state), note)


def _conversions(payment: Payment) -> Iterator[Step]:
    rows = db.session.execute(
        select(Conversion, Destination.name)
        .join(Destination, Destination.id == Conversion.destination_id)
        .where(Conversion.payment_id == payment.id)
        .order_by(Conversion.id)
    )
    for conversion, name in rows:
        note = " · ".join(part for part in (name, conversion.last_error) if part)
        yield Step(
            conversion.ended_at or conversion.created_at, "target-arrow", word(CONVERSION, conversion.state), note
        )
