"""Recebimento: where the money goes, in which order, and what each account last did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from flask import Blueprint, g, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import select

import gateways
from bot_manager.addresses import get_webhook_url
from bot_manager.app import settings
from bot_manager.funnels.payer import ORDER
from bot_manager.payments import breakers
from gateways.base import Gateway as Edge
from gateways.base import PayerField
from gateways.breaker import OPENS_AFTER
from models import Gateway, db
from web.panel.access import here
from web.panel.format import clock
from web.panel.lookup import gateway_label
from web.panel.states import Word

_PAYER = {
    PayerField.NAME: "nome completo",
    PayerField.EMAIL: "e-mail",
    PayerField.PHONE: "telefone",
    PayerField.DOCUMENT: "CPF ou CNPJ",
}

room = Blueprint("gateways", __name__, url_prefix="/recebimento")


@dataclass(frozen=True, slots=True)
class Shown:
    """address: where this account's notices go, secret included; only the owner sees it.

    wants: what the provider asks of the buyer, or "". experimental: its file is built from weak facts.
    """

    gateway: Gateway
    label: str
    word: Word
    sentence: str
    address: str | None
    wants: str
    experimental: bool


@room.get("")
def index() -> ResponseReturnValue:
    accounts = select(Gateway).where(Gateway.archived_at.is_(None))
    ordered = accounts.order_by(Gateway.own, Gateway.active.desc(), Gateway.priority, Gateway.id)
    shown = [_shown(gateway) for gateway in db.session.scalars(ordered)]
    real = any(not one.gateway.own for one in shown)
    return render_template("panel/gateways.html", accounts=shown, real=real, public=settings().public_url is not None)


def _shown(gateway: Gateway) -> Shown:
    state, sentence = _state(gateway)
    address = get_webhook_url(gateway) if g.place.role == "owner" and not gateway.own else None
    edge = gateways.all_gateways().get(gateway.kind)
    label, experimental = gateway_label(gateway.kind), bool(edge and edge.experimental)
    return Shown(gateway, label, state, sentence, address, _wants(edge), experimental)


def _wants(edge: Edge | None) -> str:
    *others, last = [_PAYER[field] for field in ORDER if edge and field in edge.payer_needs] or [""]
    return f"{', '.join(others)} e {last}" if others else last


def _state(gateway: Gateway) -> tuple[Word, str]:
    if gateway.own:
        return Word(
            "Teste", "info"
        ), "Nosso recebimento de mentira, para as vendas de teste. Nenhum dinheiro passa aqui."
    if not gateway.active:
        return Word("Pausado", "quiet"), "Não recebe novos PIX. Os que já foram gerados continuam valendo."
    if breakers.is_open(gateway):
        return Word("Em pausa automática", "bad"), f"{why_paused(gateway)} Até lá, os outros vêm antes."
    if gateway.last_error:
        return Word("Com erro", "bad"), "O último PIX não foi gerado aqui. Confira as credenciais desta conta."
    if gateway.last_charge_at is None:
        return Word("Pronto", "info"), "Ainda não gerou nenhum PIX."
    return Word("Funcionando", "ok"), "Gerando PIX normalmente."


def why_paused(gateway: Gateway) -> str:
    """Of an account whose breaker is open: since what, and until when."""
    when = "no próximo PIX"
    if gateway.open_until and gateway.open_until > datetime.now(UTC):
        when = f"num PIX de verdade, a partir das {clock(gateway.open_until, here())}"
    how = f"{gateway.failures} vezes seguidas" if gateway.failures >= OPENS_AFTER else "metade das últimas vezes"
    return f"Falhou {how}. Testamos de novo sozinhos, {when}."
