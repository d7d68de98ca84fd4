"""What each shop lacks for a sale, as far as it is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import select

import gateways
from bot_manager.app import look_across_sellers
from bot_manager.ops.check import Check, bad, doubtful, good
from bot_manager.payments import breakers
from bot_manager.shop.rules import SANDBOX
from gateways.breaker import OPENS_AFTER
from gateways.fields import reais
from models import Bot, BotOffer, BotState, Destination, Gateway, Offer, Seller, db

_APPLY = "e aplique o arquivo da loja de novo"


@dataclass(slots=True)
class ShopView:
    """A seller's set-up without what is archived. offers: what each bot shows, by its id. gateways: the active ones."""

    seller: Seller
    bots: list[Bot] = field(default_factory=list)
    offers: dict[int, list[Offer]] = field(default_factory=lambda: defaultdict(list))
    gateways: list[Gateway] = field(default_factory=list)
    destinations: list[Destination] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"loja {self.seller.name} (nº {self.seller.id})"


def checks() -> list[Check]:
    """Reads across sellers."""
    look_across_sellers()
    if shops := _shops():
        return [check for shop in shops for check in _examined(shop)]
    return [doubtful("lojas", "ainda não há nenhuma", "Crie uma no painel, ou com `python -m bot_manager apply`.")]


def _shops() -> list[ShopView]:
    shops = {seller.id: ShopView(seller) for seller in db.session.scalars(select(Seller).order_by(Seller.id))}
    for bot in db.session.scalars(select(Bot).where(Bot.archived_at.is_(None)).order_by(Bot.id)):
        shops[bot.seller_id].bots.append(bot)
    shown = select(BotOffer.bot_id, Offer).join(Offer, Offer.id == BotOffer.offer_id)
    for bot_id, offer in db.session.execute(shown.where(Offer.archived_at.is_(None)).order_by(BotOffer.position)):
        shops[offer.seller_id].offers[bot_id].append(offer)
    for gateway in db.session.scalars(select(Gateway).where(Gateway.archived_at.is_(None), Gateway.active)):
        shops[gateway.seller_id].gateways.append(gateway)
    for destination in db.session.scalars(select(Destination).where(Destination.archived_at.is_(None))):
        shops[destination.seller_id].destinations.append(destination)
    return list(shops.values())


def _examined(shop: ShopView) -> list[Check]:
    found = [*_bots(shop), *_selling(shop), *_gateways(shop), *_destinations(shop), *_papers(shop)]
    return found or [good(shop.name)]


def _bots(shop: ShopView) -> Iterator[Check]:
    if not shop.bots:
        yield doubtful(shop.name, "não tem bot", "Acrescente um em bots: no arquivo da loja, ou no painel.")
    for bot in shop.bots:
        yield from _connection(f"{shop.name}, bot {bot.key}", bot)


def _connection(name: str, bot: Bot) -> Iterator[Check]:
    match bot.state:
        case BotState.REFUSED:
            problem = f"o Telegram recusa o token{f' ({bot.state_note})' if bot.state_note else ''}"
            yield bad(name, problem, f"Gere outro token no @BotFather {_APPLY}.")
        case BotState.UNREACHABLE:
            yield bad(name, "o Telegram não respondeu por este bot", "Confira a rede; o worker tenta de novo.")
        case BotState.CONNECTING:
            yield doubtful(name, "ainda não conectou", "Espere um minuto; se continuar, veja se há um worker no ar.")
        case BotState.UNCONNECTED:
            yield doubtful(name, "sem token, só atende na conversa de teste", f"Ponha o token do @BotFather {_APPLY}.")


def _selling(shop: ShopView) -> Iterator[Check]:
    empty = [bot for bot in shop.bots if not shop.offers[bot.id]]
    fix = "Ponha as chaves das ofertas em offers: do bot."
    if empty and len(empty) == len(shop.bots):
        yield bad(shop.name, "nenhum bot tem ofertas", fix)
        return
    for bot in empty:
        yield doubtful(f"{shop.name}, bot {bot.key}", "não tem ofertas", fix)
    if any(not bot.test for bot in shop.bots):
        yield from _charging(shop)


def _charging(shop: ShopView) -> Iterator[Check]:
    real = [gateway for gateway in shop.gateways if gateway.kind != SANDBOX]
    minimums = {one.name: gateways.get(one.kind).minimum_cents for one in real if one.kind in gateways.all_gateways()}
    if not minimums:
        problem = "tem bot que não é de teste e nenhum gateway ativo"
        yield bad(shop.name, problem, "Acrescente uma conta em gateways:, ou ponha test: true no bot.")
        return
    offers = {offer.id: offer for bot in shop.bots if not bot.test for offer in shop.offers[bot.id]}
    for offer in offers.values():
        yield from _price(f"{shop.name}, oferta {offer.key}", offer.price_cents, minimums)


def _price(name: str, price_cents: int, minimums: dict[str, int]) -> Iterator[Check]:
    too_little = [gateway for gateway, least in minimums.items() if price_cents < least]
    if len(too_little) == len(minimums):
        fix = f'Peça ao menos "{reais(min(minimums.values()))}".'
        yield bad(name, "nenhum gateway ativo cobra tão pouco", fix)
    elif too_little:
        fix = "Suba o preço, se quiser que todos sirvam de reserva."
        yield doubtful(name, f"{', '.join(too_little)} não cobra tão pouco", fix)


def _gateways(shop: ShopView) -> Iterator[Check]:
    real = [gateway for gateway in shop.gateways if gateway.kind != SANDBOX]
    if real and all(breakers.is_open(gateway) for gateway in real):
        fix = "Veja o que cada um respondeu, abaixo; cada venda ainda é tentada neles."
        yield bad(shop.name, "todos os gateways ativos falham e estão em pausa", fix)
    for gateway in shop.gateways:
        name = f"{shop.name}, gateway {gateway.name}"
        if gateway.kind not in gateways.all_gateways():
            yield bad(name, f"este programa não conhece {gateway.kind}", "Atualize o programa, ou use outro gateway.")
        elif breakers.is_open(gateway):
            row = (
                f"{gateway.failures} falhas seguidas" if gateway.failures >= OPENS_AFTER else "falhar metade das vezes"
            )
            problem = f"em pausa depois de {row} ({gateway.last_error})"
            yield doubtful(name, problem, "Confira a conta no painel do provedor; quando ele responder, volta sozinho.")
        elif gateway.last_error:
            fix = "Confira a conta no painel do provedor."
            yield doubtful(name, f"a última recusa foi: {gateway.last_error}", fix)


def _destinations(shop: ShopView) -> Iterator[Check]:
    for destination in shop.destinations:
        if destination.paused_note:
            name = f"{shop.name}, destino {destination.name}"
            problem = f"pausado, as compras não são informadas: {destination.paused_note}"
            yield bad(name, problem, f"Gere outro token na plataforma {_APPLY}.")


def _papers(shop: ShopView) -> Iterator[Check]:
    absent = [key for key in ("support", "terms_url") if not getattr(shop.seller, key)]
    if shop.bots and absent:
        problem = f"falta {' e '.join(absent)}, que o bot mostra a quem compra"
        yield doubtful(shop.name, problem, "Preencha em seller: no arquivo da loja.")
