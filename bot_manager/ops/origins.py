"""Whether those who come are told apart: behind a proxy that nobody declared, all seem to come from its address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from sqlalchemy import text

from bot_manager.app import look_across_sellers, vault
from bot_manager.ops.check import Check, doubtful, good
from bot_manager.security.logins import network
from bot_manager.security.vault import CannotOpen
from bot_manager.settings import Settings
from models import db
from tracking.clicks import PURPOSE

NAME = "quem acessa"
LOOKED_AT = 100  # of each kind, the newest
ENOUGH = 20  # of one neighbourhood, and no other; fewer may well be one person

_SEEN = text(
    "select network from (select network, created_at as at from login order by id desc limit :most) newest"
    " where at > now() - interval '1 day'"
    " union all select origin from (select origin, at from security_event order by at desc limit :most) newest"
    " where at > now() - interval '1 day'"
)
_CLICKS = text(
    "select visitor_sealed, seller_id from (select visitor_sealed, seller_id, at from click order by id desc"
    " limit :most) newest where at > now() - interval '1 day'"
)


def check(settings: Settings) -> Check:
    """Only where others can reach us: on a laptop all come from it."""
    public = (settings.public_url or "").startswith("https:")
    seen = [place for place in _places() if place] if public else []
    if len(set(seen)) != 1 or (len(seen) < ENOUGH and not _is_inside(seen[0])):
        return good(NAME)
    problem = f"todos os acessos do último dia parecem vir de {seen[0]}: limites e anúncios não distinguem ninguém"
    return doubtful(NAME, problem, "Ponha em TRUSTED_PROXIES os endereços do proxy que fica na frente deste programa.")


def _places() -> Iterable[str]:
    """The neighbourhoods of the last day's logins, strangers and clicks."""
    look_across_sellers()
    addresses = list(db.session.scalars(_SEEN, {"most": LOOKED_AT}))
    return map(_place, [*addresses, *_visitors()])


def _visitors() -> Iterator[str]:
    for sealed, seller_id in db.session.execute(_CLICKS, {"most": LOOKED_AT}):
        try:
            yield vault().open_json(sealed, PURPOSE, seller_id).get("ip") or ""
        except CannotOpen:
            continue


def _place(address: str) -> str:
    return address if "/" in address else network(address)


def _is_inside(place: str) -> bool:
    return not ipaddress.ip_network(place).is_global
