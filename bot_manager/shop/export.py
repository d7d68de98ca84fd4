"""The shop file back from what is stored, without secrets: applied again, it changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, TypeVar

import yaml
from sqlalchemy import select

from bot_manager.app import act_for, look_across_sellers
from bot_manager.shop.stored import seller_with, stored
from gateways.fields import reais
from models import Bot, BotOffer, Destination, Gateway, Link, Offer, Seller, db

_DELIVERED = ("kind", "url", "chat_id", "days")  # PostgreSQL keeps JSON's keys in no order of ours

Row = TypeVar("Row", Gateway, Offer, Bot, Link, Destination)


class NoSuchSeller(LookupError):
    """No seller has this e-mail."""


def export(email: str) -> str:
    """YAML, one entry a line. Acts for the seller from then on. Raises NoSuchSeller."""
    look_across_sellers()
    seller = seller_with(email.strip().lower())
    if seller is None:
        raise NoSuchSeller(email)
    act_for(seller.id)
    return "".join(_lines(seller))


def _lines(seller: Seller) -> Iterator[str]:
    yield f"seller:\n  {_flow(_seller(seller))}\n"
    for section, entries in _sections(seller.id).items():
        yield f"{section}:\n" if entries else f"{section}: []\n"
        yield from (f"  - {_flow(entry)}\n" for entry in entries)


def _sections(seller_id: int) -> dict[str, list[dict[str, Any]]]:
    bots = {bot.id: bot for bot in _kept(stored(Bot, "key", seller_id))}
    gateways = [gateway for gateway in _kept(stored(Gateway, "name", seller_id)) if not gateway.own]
    links = [link for link in _kept(stored(Link, "slug", seller_id)) if link.bot_id in bots]
    return {
        "gateways": [_gateway(gateway) for gateway in gateways],
        "offers": [_offer(offer) for offer in _kept(stored(Offer, "key", seller_id))],
        "bots": [_bot(bot) for bot in bots.values()],
        "links": [{"slug": link.slug, "bot": bots[link.bot_id].key, "mode": link.mode} for link in links],
        "destinations": [_destination(one, bots) for one in _kept(stored(Destination, "name", seller_id))],
    }


def _kept(rows: dict[str, Row]) -> list[Row]:
    return [row for row in rows.values() if row.archived_at is None]


def _flow(entry: dict[str, Any]) -> str:
    dumped = yaml.safe_dump(entry, default_flow_style=True, allow_unicode=True, sort_keys=False, width=inf)
    return dumped.strip()


def _picked(row: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _seller(seller: Seller) -> dict[str, Any]:
    return _picked(seller, ("name", "email", "timezone", "document", "address", "support", "terms_url"))


def _gateway(gateway: Gateway) -> dict[str, Any]:
    picked = _picked(gateway, ("name", "kind", "priority", "weight", "active"))
    fees = {"fee_fixed": gateway.fee_fixed_cents, "fee_percent": gateway.fee_basis_points}
    return picked | {name: reais(value) for name, value in fees.items() if value is not None}


def _offer(offer: Offer) -> dict[str, Any]:
    delivers = [{key: item[key] for key in _DELIVERED if key in item} for item in offer.delivers]
    return {"key": offer.key, "name": offer.name, "price": reais(offer.price_cents), "delivers": delivers}


def _bot(bot: Bot) -> dict[str, Any]:
    shown = select(Offer.key).join(BotOffer, BotOffer.offer_id == Offer.id).where(BotOffer.bot_id == bot.id)
    offers = db.session.scalars(shown.where(Offer.archived_at.is_(None)).order_by(BotOffer.position))
    return {
        **_picked(bot, ("key", "channel", "test")),
        "offers": list(offers),
        **_picked(bot, ("funnel", "pix_minutes")),
    }


def _destination(destination: Destination, bots: dict[int, Bot]) -> dict[str, Any]:
    only = destination.bot_ids
    return {
        **_picked(destination, ("name", "kind", "pixel_id", "test_event_code")),
        "bots": "all" if only is None else [bots[bot_id].key for bot_id in only if bot_id in bots],
    }
