"""The shop file: what a seller sells, through which gateways and bots, as a YAML text.

`read` checks all of it and answers a `Shop`, or raises BadShop with everything that is wrong. Nothing here touches the
database; `apply` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from bot_manager.shop import rules
from bot_manager.shop.explain import Complaint, explain
from bot_manager.shop.lines import MAX_BYTES, Document, parse
from bot_manager.shop.mistakes import BadShop, Mistake
from bot_manager.shop.schema import schema

__all__ = ["BadShop", "Mistake", "Shop", "load", "read"]


@dataclass(frozen=True, slots=True)
class SellerEntry:
    """email is in lower case: it is who the seller is."""

    name: str
    email: str
    timezone: str = "America/Sao_Paulo"
    document: str | None = None
    address: str | None = None
    support: str | None = None
    terms_url: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayEntry:
    """credentials: only those given; an empty one takes the stored one away. fee_basis_points: 0.99 % is 99."""

    line: int
    name: str
    kind: str
    priority: int = 1
    weight: int = 1
    active: bool = True
    fee_fixed_cents: int | None = None
    fee_basis_points: int | None = None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class OfferEntry:
    """delivers: as `models.Offer.delivers`, complete."""

    line: int
    key: str
    name: str
    price_cents: int
    delivers: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class BotEntry:
    """token: None when omitted. offers: keys, in the order they are shown."""

    line: int
    key: str
    channel: str = "telegram"
    token: str | None = field(default=None, repr=False)
    test: bool = False
    offers: tuple[str, ...] = ()
    funnel: Mapping[str, Any] | None = None
    pix_minutes: int = 30


@dataclass(frozen=True, slots=True)
class LinkEntry:
    line: int
    slug: str
    bot: str
    mode: str = "redirect"


@dataclass(frozen=True, slots=True)
class DestinationEntry:
    """bots: keys; None means all."""

    line: int
    name: str
    kind: str
    pixel_id: str
    access_token: str | None = field(default=None, repr=False)
    test_event_code: str | None = None
    bots: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Shop:
    seller: SellerEntry
    gateways: tuple[GatewayEntry, ...] = ()
    offers: tuple[OfferEntry, ...] = ()
    bots: tuple[BotEntry, ...] = ()
    links: tuple[LinkEntry, ...] = ()
    destinations: tuple[DestinationEntry, ...] = ()


def load(path: Path) -> Shop:
    """Raises OSError, BadShop."""
    with path.open("rb") as file:
        return read(file.read(MAX_BYTES + 1))


def read(content: bytes) -> Shop:
    """Raises BadShop with all mistakes."""
    document = parse(content)
    complaints = list(_broken(document))
    refused = {complaint.place for complaint in complaints}
    if isinstance(document.value, dict):
        complaints += [one for one in rules.complaints(document.value) if one.place not in refused]
    for one in complaints:
        document.mistake(one.place, one.problem, one.fix)
    if document.mistakes:
        raise BadShop(document.mistakes)
    return _shop(document)


def _broken(document: Document) -> Iterator[Complaint]:
    for error in Draft202012Validator(schema()).iter_errors(document.value):
        yield from explain(error)


def _shop(document: Document) -> Shop:
    raw = document.value
    return Shop(
        seller=SellerEntry(**raw["seller"] | {"email": raw["seller"]["email"].lower()}),
        gateways=tuple(GatewayEntry(**_gateway(entry)) for entry in _lined(document, "gateways")),
        offers=tuple(OfferEntry(**_offer(entry)) for entry in _lined(document, "offers")),
        bots=tuple(BotEntry(**_bot(entry)) for entry in _lined(document, "bots")),
        links=tuple(LinkEntry(**entry) for entry in _lined(document, "links")),
        destinations=tuple(DestinationEntry(**_destination(entry)) for entry in _lined(document, "destinations")),
    )


def _lined(document: Document, section: str) -> Iterator[dict[str, Any]]:
    for index, entry in enumerate(document.value.get(section) or []):
        yield {**entry, "line": document.line((section, index))}


def _gateway(entry: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in (entry.get("credentials") or {}).items() if value is not None}
    tariff = {"fee_fixed": "fee_fixed_cents", "fee_percent": "fee_basis_points"}
    fees = {column: rules.cents(entry[name]) for name, column in tariff.items() if entry.get(name) is not None}
    kept = {name: value for name, value in entry.items() if name not in tariff}
    return _whole(kept, "priority", "weight") | fees | {"credentials": given}


def _offer(entry: dict[str, Any]) -> dict[str, Any]:
    delivers = tuple(_delivered(item) for item in entry["delivers"])
    kept = {name: entry[name] for name in ("line", "key", "name")}
    return {**kept, "price_cents": rules.cents(entry["price"]), "delivers": delivers}


def _delivered(item: dict[str, Any]) -> dict[str, Any]:
    if item["kind"] == "link":
        return {"kind": "link", "url": item["url"]}
    days = item.get("days")
    return {"kind": "group", "chat_id": int(item["chat_id"]), "days": days and int(days)}


def _bot(entry: dict[str, Any]) -> dict[str, Any]:
    return _whole(entry, "pix_minutes") | {"offers": tuple(entry.get("offers") or ())}


def _destination(entry: dict[str, Any]) -> dict[str, Any]:
    bots = entry.get("bots", "all")
    return {**entry, "bots": None if bots == "all" else tuple(bots)}


def _whole(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    # To JSON Schema 3.0 is an integer.
    return {name: int(value) if name in names else value for name, value in entry.items()}
