"""What needs somebody: one sentence each that says what happened, who acts next and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flask import g, url_for
from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on

from bot_manager.app import settings
from bot_manager.payments import breakers
from models import (
    Access,
    AccessState,
    Bot,
    BotState,
    Click,
    Destination,
    Gateway,
    Payment,
    PaymentEvent,
    PaymentStatus,
    db,
)
from web.panel.access import here
from web.panel.format import moment, money
from web.panel.gateways import why_paused
from web.panel.lookup import gateway_label

RECENT = timedelta(days=2)
LONGEST_DISPUTE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Alert:
    tone: str
    icon: str
    title: str
    text: str
    action: str
    href: str


@dataclass(frozen=True, slots=True)
class Step:
    """One of the things between a new shop and its first sale; done is checked, never ticked by hand."""

    done: bool
    title: str
    text: str
    action: str
    href: str


def alerts() -> list[Alert]:
    return [*_disputes(), *_bots(), *_gateways(), *_groups(), *_destinations(), *_address()]


def _disputes() -> Iterator[Alert]:
    """Those that are open, by what the provider told last."""
    last = (
        select(PaymentEvent)
        .where(PaymentEvent.seller_id == g.place.seller.id, PaymentEvent.kind.startswith("dispute_"))
        .where(PaymentEvent.at > datetime.now(UTC) - LONGEST_DISPUTE)
        .ext(distinct_on(PaymentEvent.payment_id))
        .order_by(PaymentEvent.payment_id, PaymentEvent.id.desc())
        .subquery()
    )
    disputed = select(Payment, last.c.data).join(last, last.c.payment_id == Payment.id)
    for payment, data in db.session.execute(disputed.where(last.c.kind == "dispute_opened").order_by(last.c.at)):
        until = moment(datetime.fromisoformat(data["due_at"]), here())
        text = f"{money(payment.amount_cents)} podem voltar ao pagador. Responda no painel do provedor até {until}."
        href = url_for("shop.sales.one", payment_id=payment.payment_id)
        yield Alert(
            "bad", "alert-triangle", f"A venda de {payment.offer_name} foi contestada.", text, "Ver a venda", href
        )


def _bots() -> Iterator[Alert]:
    href = url_for("shop.bots.index")
    stopped = select(Bot).where(Bot.state.in_((BotState.REFUSED, BotState.UNREACHABLE))).order_by(Bot.id)
    for bot in db.session.scalars(stopped):
        name = bot.name or bot.key
        if bot.state == BotState.REFUSED:
            text = "O Telegram recusou o token. Gere outro no @BotFather e troque o token."
            yield Alert("bad", "plug-connected-x", f"O bot {name} parou.", text, "Ver o bot", href)
        else:
            text = "O Telegram não respondeu. Tentamos de novo sozinhos."
            yield Alert("warn", "plug-connected-x", f"Sem contato com o bot {name}.", text, "Ver o bot", href)


def _gateways() -> Iterator[Alert]:
    href = url_for("shop.gateways.index")
    recently = Gateway.last_error_at > datetime.now(UTC) - RECENT
    failing = select(Gateway).where(
        Gateway.active,
        Gateway.archived_at.is_(None),
        or_(Gateway.open_until.is_not(None), and_(Gateway.last_error.is_not(None), recently)),
    )
    for gateway in db.session.scalars(failing.order_by(Gateway.priority, Gateway.id)):
        name = gateway_label(gateway.kind)
        title, text = f"{name} não gerou o último PIX.", f"Ele respondeu: {gateway.last_error}."
        if breakers.is_open(gateway):
            title, text = f"{name} está em pausa.", f"{why_paused(gateway)} {text if gateway.last_error else ''}"
        yield Alert(
            "bad", "credit-card", title, f"{text.strip()} Confira as credenciais desta conta.", "Ver recebimento", href
        )


def _groups() -> Iterator[Alert]:
    overdue = select(func.count()).where(Access.state == AccessState.OPEN, Access.last_error.is_not(None))
    if count := db.session.scalar(overdue):
        who = "Um cliente ainda está" if count == 1 else f"{count} clientes ainda estão"
        text = "O bot não conseguiu remover. No grupo, dê a ele o direito de banir usuários: tentamos a cada hora."
        yield Alert(
            "bad",
            "alert-triangle",
            f"{who} num grupo com o acesso vencido.",
            text,
            "Ver bots",
            url_for("shop.bots.index"),
        )


def _destinations() -> Iterator[Alert]:
    paused = select(Destination).where(Destination.paused_note.is_not(None), Destination.archived_at.is_(None))
    for place in db.session.scalars(paused):
        title = f"A medição do anúncio “{place.name}” está parada."
        text = f"{place.paused_note}. As compras ficam guardadas até você trocar a chave."
        yield Alert("warn", "target-arrow", title, text, "Ver vendas", url_for("shop.sales.index"))


def _address() -> Iterator[Alert]:
    """Without a public address no bank reaches us; it only matters to who has a real account."""
    real = Gateway.active, Gateway.own.is_(False), Gateway.archived_at.is_(None)
    if settings().public_url is None and db.session.scalar(select(exists().where(*real))):
        title = "Os avisos do banco não chegam aqui."
        text = "O painel ainda não tem endereço público: confirmamos cada PIX perguntando ao banco, e demora mais."
        yield Alert("warn", "world-off", title, text, "Entender", url_for("shop.gateways.index"))


def steps() -> list[Step]:
    """What is missing before the first real sale; empty when nothing is."""
    tested, connected, account, clicked, sold = db.session.execute(
        select(
            exists().where(Payment.test, Payment.status == PaymentStatus.PAID),
            exists().where(Bot.state == BotState.ACTIVE),
            exists().where(Gateway.own.is_(False), Gateway.active, Gateway.archived_at.is_(None)),
            exists().where(Click.not_a_person.is_(None)),
            exists().where(Payment.test.is_(False), Payment.status == PaymentStatus.PAID),
        )
    ).one()
    if sold:
        return []
    bots, chat, banks = (url_for(f"shop.{room}") for room in ("bots.index", "chat.first", "gateways.index"))
    return [
        Step(True, "Criar a loja", "Feito.", "", ""),
        Step(tested, "Fazer uma venda de teste", "Compre de você mesmo, sem gastar nada.", "Testar agora", chat),
        Step(connected, "Conectar seu bot do Telegram", "O token vem do @BotFather.", "Ver como", bots),
        Step(account, "Escolher por onde receber", "O dinheiro cai direto na sua conta.", "Ver como", banks),
        Step(clicked, "Colocar o link no anúncio", "Ele guarda a origem de cada venda.", "Ver links", bots),
    ]
