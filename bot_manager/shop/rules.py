"""What must hold between the parts of a shop file, and what a JSON Schema can't say of a value.

Each rule reads the plain values, which may be wrong in other ways: a rule says nothing about what the schema has
already refused, so that everything wrong is told at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import gateways
from bot_manager.shop.explain import Complaint
from bot_manager.shop.lines import Place
from gateways.fields import reais

SANDBOX = "sandbox"
_IDENTITIES = {"gateways": "name", "offers": "key", "bots": "key", "links": "slug", "destinations": "name"}
_EMAIL = re.compile(r"[^@\s\"'<>(),;:\\]+@(?:[\w-]+\.)+[\w-]{2,}")
_URL_LIKE = re.compile(r"[!-~\u00a1-\U0010ffff]+")  # no spaces, no control characters

Raw = dict[str, Any]


def complaints(shop: Raw) -> Iterator[Complaint]:
    for rule in _RULES:
        yield from rule(shop)


def cents(price: str) -> int:
    """ "49.90" → 4990, by its digits."""
    return int(price.replace(".", ""))


def _entries(shop: Raw, section: str) -> Iterator[tuple[Place, Raw]]:
    listed = shop.get(section)
    for index, entry in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(entry, dict):
            yield (section, index), entry


def _keys(shop: Raw, section: str) -> set[Any]:
    identity = _IDENTITIES[section]
    return {entry[identity] for _, entry in _entries(shop, section) if isinstance(entry.get(identity), str)}


def _names_are_unique(shop: Raw) -> Iterator[Complaint]:
    for section, identity in _IDENTITIES.items():
        fix = "Dê a cada entrada um nome só dela, ou junte as duas."
        yield from _repeated(shop, section, identity, "este nome já foi usado acima", fix)


def _tokens_are_unique(shop: Raw) -> Iterator[Complaint]:
    fix = "Cada bot precisa do seu: crie outro no @BotFather."
    yield from _repeated(shop, "bots", "token", "este token já é de outro bot do arquivo", fix)


def _repeated(shop: Raw, section: str, key: str, problem: str, fix: str) -> Iterator[Complaint]:
    seen: set[str] = set()
    for place, entry in _entries(shop, section):
        value = entry.get(key)
        if isinstance(value, str) and value in seen:
            yield Complaint((*place, key), problem, fix)
        elif isinstance(value, str):
            seen.add(value)


def _names_exist(shop: Raw) -> Iterator[Complaint]:
    offers, bots = _keys(shop, "offers"), _keys(shop, "bots")
    for place, bot in _entries(shop, "bots"):
        yield from _unknown_items((*place, "offers"), bot.get("offers"), offers, "offers")
    for place, destination in _entries(shop, "destinations"):
        yield from _unknown_items((*place, "bots"), destination.get("bots"), bots, "bots")
    for place, link in _entries(shop, "links"):
        yield from _unknown((*place, "bot"), link.get("bot"), bots, "bots")


def _unknown_items(place: Place, wanted: Any, known: set[Any], section: str) -> Iterator[Complaint]:
    for index, name in enumerate(wanted if isinstance(wanted, list) else []):
        yield from _unknown((*place, index), name, known, section)


def _unknown(place: Place, name: Any, known: set[Any], section: str) -> Iterator[Complaint]:
    if isinstance(name, str) and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        fix = f"Você quis dizer {near[0]}?" if near else f"Acrescente-a em {section}, ou use uma das que estão lá."
        yield Complaint(place, f"a chave {name[:60]} não existe em {section}", fix)


def _prices_can_be_charged(shop: Raw) -> Iterator[Complaint]:
    least = _least_cents(shop)
    for place, offer in _entries(shop, "offers"):
        price = offer.get("price")
        if not (isinstance(price, str) and re.fullmatch(r"[0-9]{1,7}\.[0-9]{2}", price)) or cents(price) >= least:
            continue
        problem = "nenhum gateway do arquivo cobra tão pouco" if cents(price) else "o preço é zero"
        yield Complaint((*place, "price"), problem, f'Peça ao menos "{reais(least)}".')


def _least_cents(shop: Raw) -> int:
    """The smallest charge that some gateway of the file takes."""
    known = gateways.all_gateways()
    kinds = [entry.get("kind") for _, entry in _entries(shop, "gateways")]
    minimums = [known[kind].minimum_cents for kind in kinds if isinstance(kind, str) and kind in known]
    return max(1, min(minimums, default=1))


def _sandbox_is_for_tests(shop: Raw) -> Iterator[Complaint]:
    kinds = [gateway.get("kind") for _, gateway in _entries(shop, "gateways")]
    if not kinds or any(kind != SANDBOX for kind in kinds):
        return
    for place, bot in _entries(shop, "bots"):
        if bot.get("test", False) is False:
            fix = "Ponha test: true neste bot, ou acrescente um gateway que receba PIX de verdade."
            yield Complaint((*place, "test"), "o único gateway é o sandbox, que só atende bots de teste", fix)


def _sandbox_keeps_its_name(shop: Raw) -> Iterator[Complaint]:
    for place, gateway in _entries(shop, "gateways"):
        if gateway.get("name") == SANDBOX and gateway.get("kind") != SANDBOX:
            fix = "Dê outro nome a esta conta."
            yield Complaint((*place, "name"), "sandbox é o nome do gateway de teste que toda loja tem", fix)


def _credentials_are_pasted_alone(shop: Raw) -> Iterator[Complaint]:
    for place, gateway in _entries(shop, "gateways"):
        credentials = gateway.get("credentials")
        for name, value in credentials.items() if isinstance(credentials, dict) else ():
            if isinstance(value, str) and not name.endswith("_pem") and re.search(r"^\s|\s$|[^ -~]", value):
                fix = "Cole só a credencial, numa linha, sem espaços em volta."
                problem = "há espaço, quebra de linha ou acento onde não pode haver"
                yield Complaint((*place, "credentials", name), problem, fix)


def _zone_exists(shop: Raw) -> Iterator[Complaint]:
    zone = _of_seller(shop, "timezone")
    if zone and not is_zone(zone):
        fix = "Use um nome como America/Sao_Paulo, America/Manaus ou America/Rio_Branco."
        yield Complaint(("seller", "timezone"), f"o fuso horário {zone[:60]} não existe", fix)


def is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return False
    return True


def _email_is_one(shop: Raw) -> Iterator[Complaint]:
    email = _of_seller(shop, "email")
    if email and not _EMAIL.fullmatch(email):
        yield Complaint(("seller", "email"), "não é um e-mail", "Escreva como nome@exemplo.com.")


def _addresses_are_safe(shop: Raw) -> Iterator[Complaint]:
    yield from _unsafe(("seller", "terms_url"), _of_seller(shop, "terms_url"))
    for place, offer in _entries(shop, "offers"):
        for inner, delivered in _entries(offer, "delivers"):
            yield from _unsafe((*place, *inner, "url"), delivered.get("url"))


def _unsafe(place: Place, url: Any) -> Iterator[Complaint]:
    if isinstance(url, str) and url and not is_safe_url(url):
        yield Complaint(place, "não é um endereço https", "Escreva o endereço inteiro, como https://exemplo.com/curso.")


def is_safe_url(url: str) -> bool:
    """https, with a host, without credentials or characters that an address has not."""
    if not _URL_LIKE.fullmatch(url) or re.search(r"[\"'<>\\^`{|}]", url):
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme == "https" and "." in host and "@" not in parts.netloc and (parts.port or 1) > 0
    except ValueError:
        return False


def _funnel_starts_somewhere(shop: Raw) -> Iterator[Complaint]:
    for place, bot in _entries(shop, "bots"):
        funnel = bot.get("funnel")
        if not isinstance(funnel, dict) or not isinstance(funnel.get("steps"), dict):
            continue
        start = funnel.get("start")
        if isinstance(start, str) and start not in funnel["steps"]:
            yield Complaint((*place, "funnel", "start"), f"a etapa {start[:60]} não existe", "Use uma das de steps.")


def _of_seller(shop: Raw, key: str) -> str:
    seller = shop.get("seller")
    value = seller.get(key) if isinstance(seller, dict) else None
    return value if isinstance(value, str) else ""


_RULES: tuple[Callable[[Raw], Iterator[Complaint]], ...] = (
    _names_are_unique,
    _tokens_are_unique,
    _names_exist,
    _prices_can_be_charged,
    _sandbox_is_for_tests,
    _sandbox_keeps_its_name,
    _credentials_are_pasted_alone,
    _zone_exists,
    _email_is_one,
    _addresses_are_safe,
    _funnel_starts_somewhere,
)
