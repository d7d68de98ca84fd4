"""Asking the outside, without making anything there.

Are the tokens and credentials accepted, is our address ours, do the links open that buyers are sent?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import requests
from sqlalchemy import select

import gateways
from bot_manager.app import look_across_sellers
from bot_manager.network import outgoing
from bot_manager.network.wire import WireError
from bot_manager.ops.check import Check, bad, doubtful, good
from bot_manager.payments.accounts import account
from bot_manager.security.vault import CannotOpen
from bot_manager.settings import Settings
from bot_manager.shop.stored import held_token
from gateways.base import Account, GatewayError, GatewayMisconfigured, GatewayRefused
from models import Bot, Gateway, Offer, Seller, db

AT_ONCE = 8
MOST_LINKS = 200
TIMEOUT_S = (3.0, 5.0)  # to connect, and between two pieces of the answer

_MEND_LINK = "Troque o endereço no arquivo da loja, e aplique-o de novo."
_NETWORK = "Confira a rede desta máquina e tente de novo; com --offline o doctor não pergunta a ninguém."


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask once no transaction is open."""

    name: str
    ask: Callable[[str], Check]


def questions(settings: Settings) -> tuple[list[Check], list[Question]]:
    """Opens what there is to ask with, across sellers: what does not open, and what to ask."""
    look_across_sellers()
    prepared = [*_gateways(), *_bots(settings.telegram_api_url), Question("web", partial(_ask_ourselves, settings))]
    prepared += _links()
    closed = [one for one in prepared if isinstance(one, Check)]
    return closed, [one for one in prepared if isinstance(one, Question)]


def ask(asked: list[Question]) -> list[Check]:
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe") as threads:
        return list(threads.map(lambda question: question.ask(question.name), asked))


def _gateways() -> Iterator[Check | Question]:
    active = select(Gateway).where(Gateway.archived_at.is_(None), Gateway.active, Gateway.kind.in_(known()))
    for gateway in db.session.scalars(active.order_by(Gateway.id)):
        name = f"gateway {gateway.name} (loja nº {gateway.seller_id})"
        try:
            yield Question(name, partial(_ask_gateway, gateway.kind, account(gateway)))
        except CannotOpen:
            yield _closed(name)


def known() -> list[str]:
    """The kinds that can be asked: all but those that take no money."""
    return [kind for kind, gateway in gateways.all_gateways().items() if not gateway.test_only]


def _bots(telegram_api_url: str) -> Iterator[Check | Question]:
    connected = select(Bot).where(Bot.archived_at.is_(None), Bot.token_sealed.is_not(None))
    for bot in db.session.scalars(connected.order_by(Bot.id)):
        name = f"bot {bot.key} (loja nº {bot.seller_id})"
        try:
            yield Question(name, partial(_ask_telegram, f"{telegram_api_url}/bot{held_token(bot)}/getMe"))
        except CannotOpen:
            yield _closed(name)


def _links() -> Iterator[Check | Question]:
    """The addresses that buyers are sent to, each once, with the first shop that gave it."""
    given: dict[str, str] = {}
    sold = select(Offer).where(Offer.archived_at.is_(None)).order_by(Offer.id)
    for offer in db.session.scalars(sold):
        for item in offer.delivers:
            given.setdefault(str(item.get("url") or ""), f"oferta {offer.key} (loja nº {offer.seller_id})")
    for seller in db.session.scalars(select(Seller).where(Seller.terms_url.is_not(None)).order_by(Seller.id)):
        given.setdefault(seller.terms_url or "", f"termos de uso (loja nº {seller.id})")
    given.pop("", None)
    addresses = sorted(given)
    if len(addresses) > MOST_LINKS:
        problem = f"são {len(addresses)} endereços, e só {MOST_LINKS} foram abertos"
        yield doubtful("links entregues", problem, "Confira os outros à mão.")
    for url in addresses[:MOST_LINKS]:
        yield Question(given[url], partial(_ask_link, url))


def _ask_link(url: str, name: str) -> Check:
    shown = url[:80]
    try:
        status = outgoing.status_of(url)
    except outgoing.UnknownName:
        return doubtful(name, f"{shown} não existe: o nome do site é desconhecido", _MEND_LINK)
    except outgoing.Forbidden as why:
        return doubtful(name, f"{shown} não é um endereço que o cliente abra ({why})", _MEND_LINK)
    except WireError as why:
        return doubtful(name, f"{shown} não abriu ({why})", "Abra-o no navegador; se não abrir, troque o endereço.")
    if status in (404, 410):
        return doubtful(name, f"{shown} responde que a página não existe ({status})", _MEND_LINK)
    if status >= 500:
        return doubtful(name, f"{shown} responde com erro ({status})", "Abra-o no navegador daqui a pouco.")
    return good(name)


def _closed(name: str) -> Check:
    fix = "Devolva a chave antiga a ENCRYPTION_KEYS ou a KEYS_DIR, ou dê o segredo de novo no arquivo da loja."
    return bad(name, "o segredo guardado não se abre com as chaves desta instalação", fix)


def _ask_gateway(kind: str, known_as: Account, name: str) -> Check:
    try:
        gateways.get(kind).probe(known_as)
    except (GatewayMisconfigured, GatewayRefused) as error:
        return bad(name, f"o provedor não aceita as credenciais ({error})", "Confira-as no painel do provedor.")
    except GatewayError as error:
        return bad(name, f"o provedor não respondeu ({error})", _NETWORK)
    return good(name)


def _ask_telegram(url: str, name: str) -> Check:
    status = _status(url)
    if status == 200:
        return good(name)
    if status in (401, 404):
        return bad(name, "o Telegram recusa o token", "Gere outro no @BotFather e aplique o arquivo da loja de novo.")
    return bad(name, f"o Telegram não respondeu ({status or 'sem conexão'})", _NETWORK)


def _ask_ourselves(settings: Settings, name: str) -> Check:
    status = _status(f"{settings.address}/health")
    if status in (200, 503):  # 503 is the web saying itself that something is down
        return good(name)
    problem = f"{settings.address} não responde como este programa ({status or 'sem conexão'})"
    return bad(name, problem, "Rode `python -m bot_manager web`; se já roda, confira DNS, certificado e proxy.")


def _status(url: str) -> int | None:
    """The answer's status, None without an answer. Says nothing of the URL, which may hold a token."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=TIMEOUT_S, allow_redirects=False, stream=True).status_code
    except requests.RequestException:
        return None
