"""Clicks on redirect links: kept with all that tells where the visitor came from, found again by their token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import Row, bindparam, insert, select

from bot_manager.app import vault
from models import Base, Customer, Link, db
from tracking import tokens
from tracking.identifiers import choose_fbc, read_facebook_id

PURPOSE = "click.visitor"
KEY = "tracking token"
PARAMS = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term", "utm_id", "src", "sck")
LONGEST = 500  # characters kept of each value

# Fetchers of previews. An ad platform's in-app browser is a person and is not in here.
_FETCHERS = (
    "facebookexternalhit",
    "facebot",
    "meta-external",
    "meta-webindexer",
    "telegrambot",
    "whatsapp/",
    "twitterbot",
    "discordbot",
    "slackbot",
    "linkedinbot",
    "skypeuripreview",
    "tiktokspider",
    "bytespider",
    "googlebot",
    "adsbot-google",
    "bingbot",
)

_click = Base.metadata.tables["click"]
_link = Base.metadata.tables["link"]
_INSERT = insert(_click)
_BY_TOKEN = (
    select(_click, _link.c.slug)
    .join(_link, _link.c.id == _click.c.link_id)
    .where(_click.c.tracking_token == bindparam("token"))
)

Seen: TypeAlias = Row[*tuple[Any, ...]]  # a row of _BY_TOKEN


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who clicked, as far as the browser tells. fbp and fbc: byte for byte, or None."""

    ip: str
    user_agent: str
    referrer: str = ""
    fbp: str | None = None
    fbc: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """A request to a redirect link. query, cookies, headers: as they came, header names in lower case."""

    ip: str
    query: Mapping[str, str]
    cookies: Mapping[str, str]
    headers: Mapping[str, str]


def record(link: Link, visit: Visit) -> str:
    """Keeps the click, in one insert, and answers its tracking token. Who only fetches a preview gets one as well."""
    now = datetime.now(UTC)
    token = tokens.generate_tracking_token(link.seller_id, vault().derived(KEY), now)
    fbclid = _kept(visit.query.get("fbclid")) or None
    values: dict[str, Any] = {
        "seller_id": link.seller_id,
        "link_id": link.id,
        "tracking_token": token,
        "fbclid": fbclid,
        "params": {name: _kept(visit.query[name]) for name in PARAMS if visit.query.get(name)},
        "visitor_sealed": vault().seal_json(asdict(_visitor(visit, fbclid, now)), PURPOSE, link.seller_id),
        "not_a_person": _not_a_person(visit),
        "at": now,
    }
    db.session.execute(_INSERT, values)
    return token


def _visitor(visit: Visit, fbclid: str | None, now: datetime) -> Visitor:
    fbp = visit.cookies.get("_fbp")
    return Visitor(
        ip=visit.ip,
        user_agent=_kept(visit.headers.get("user-agent")),
        referrer=_kept(visit.headers.get("referer")),
        fbp=fbp if read_facebook_id(fbp, now) else None,
        fbc=choose_fbc(visit.cookies.get("_fbc"), fbclid, now),
    )


def _not_a_person(visit: Visit) -> str | None:
    agent = visit.headers.get("user-agent", "").lower()
    purpose = " ".join(visit.headers.get(name, "") for name in ("purpose", "sec-purpose", "x-purpose", "x-moz")).lower()
    if "prefetch" in purpose or "preview" in purpose:
        return "prefetch"
    return next((f"fetcher {name}" for name in _FETCHERS if name in agent), None)


def _kept(value: str | None) -> str:
    return (value or "").replace("\0", "")[:LONGEST]


def save_tracking_token(customer: Customer, token: str) -> bool:
    """Ties the click's token to the customer; False when it is forged, foreign or too old."""
    try:
        tokens.read_tracking_token(token, customer.seller_id, [vault().derived(KEY)], datetime.now(UTC))
    except tokens.BadToken:
        return False
    customer.tracking_token = token
    return True


def recover_by_tracking_token(token: str | None) -> tuple[Seen, Visitor] | None:
    """The click behind a token, with its link's slug, and its visitor; None for no token or a click that is gone."""
    click = db.session.execute(_BY_TOKEN, {"token": token}).one_or_none() if token else None
    if click is None:
        return None
    return click, Visitor(**vault().open_json(click.visitor_sealed, PURPOSE, click.seller_id))
