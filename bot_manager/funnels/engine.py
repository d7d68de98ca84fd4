"""The funnel engine: one pure function from what happened to what is to be done.

A funnel is data, a document like `default.FUNNEL`. `step` reads no clock, no database and no network, so that the
panel's test chat, a linter and a replay can call the very same function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from bot_manager.channels.base import Button, Content
from bot_manager.funnels import payer, texts
from gateways.base import PayerField

State = Mapping[str, Any]
Funnel = Mapping[str, Any]

LONGEST_COPY = 256  # characters that a copy button may carry on Telegram
BUY = "buy:"
CHECK = "paid:"
MENU = "menu"


@dataclass(frozen=True, slots=True)
class Offer:
    key: str
    name: str
    price_cents: int


@dataclass(frozen=True, slots=True)
class Shop:
    """What a funnel may show of the shop: the bot's offers, in their order, and the seller's addresses."""

    name: str
    offers: Sequence[Offer]
    terms_url: str | None = None
    privacy_url: str | None = None
    support: str | None = None


# What happened ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    first_name: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    text: str


@dataclass(frozen=True, slots=True)
class Tapped:
    data: str


@dataclass(frozen=True, slots=True)
class PixReady:
    """notice: the sentence that the gateway's terms want shown."""

    payment_id: str
    offer_name: str
    amount_cents: int
    code: str
    minutes: int
    notice: str = ""


@dataclass(frozen=True, slots=True)
class PixFailed:
    offer_name: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer to "já paguei": status is a PaymentStatus, or "unknown" when the gateway could not be asked."""

    payment_id: str
    status: str


@dataclass(frozen=True, slots=True)
class Lacks:
    """The offer can't be charged before the buyer tells these of themselves, in this order."""

    offer_key: str
    fields: Sequence[PayerField]


Heard = Started | Said | Tapped
Event = Heard | PixReady | PixFailed | Checked | Lacks


# What is to be done -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Say:
    content: Content
    payment_id: str | None = None


@dataclass(frozen=True, slots=True)
class Buy:
    offer_key: str


@dataclass(frozen=True, slots=True)
class Check:
    payment_id: str


@dataclass(frozen=True, slots=True)
class Learn:
    """What the buyer told of themselves: to be kept sealed, since the state of a chat is not."""

    field: PayerField
    value: str


Effect = Say | Buy | Check | Learn


def step(funnel: Funnel, state: State, event: Event, shop: Shop) -> tuple[State, list[Effect]]:
    """One move: the new state and the effects, in order."""
    match event:
        case Started() | Said() | Tapped():
            return _hear(funnel, state, event, shop)
        case PixReady():
            return {**state, "at": "pix"}, [Say(_pix(event), event.payment_id)]
        case PixFailed(offer_name):
            return state, [Say(Content(texts.pix_failed(offer_name), (Button(texts.TRY_AGAIN, data=MENU),)))]
        case Checked(_, status):
            return state, [Say(Content(texts.checked(status)))]
        case Lacks(offer_key, fields):
            return _ask(state, offer_key, [str(field) for field in fields])


def _hear(funnel: Funnel, state: State, event: Heard, shop: Shop) -> tuple[State, list[Effect]]:
    match event:
        case Started(first_name):
            return {**_unasked(state), "at": funnel["start"]}, [_menu(funnel, shop, first_name)]
        case Said(words) if "asking" in state and not words.startswith("/"):
            return _told(funnel, state, words, shop)
        case Said(words):
            return state, [_answer(funnel, words, shop)]
        case Tapped(data):
            return _unasked(state), _tapped(funnel, data, shop)


def _menu(funnel: Funnel, shop: Shop, first_name: str = "") -> Say:
    if not shop.offers:
        return Say(Content(texts.NOTHING_TO_SELL))
    buttons = [Button(texts.offer_label(offer.name, offer.price_cents), data=BUY + offer.key) for offer in shop.offers]
    welcome = texts.filled(funnel["steps"][funnel["start"]]["text"], first_name=first_name, shop=shop.name)
    return Say(Content("\n\n".join(part for part in (welcome, _small_print(shop)) if part), tuple(buttons)))


def _small_print(shop: Shop) -> str:
    links = (shop.terms_url, texts.TERMS), (shop.privacy_url, texts.PRIVACY)
    return " · ".join(f'<a href="{escape(url)}">{label}</a>' for url, label in links if url)


def _answer(funnel: Funnel, words: str, shop: Shop) -> Say:
    match words.split("@", maxsplit=1)[0].split(" ", maxsplit=1)[0].lower():
        case "/privacy" | "/privacidade":
            return Say(Content(texts.privacy(shop.name, shop.privacy_url)))
        case "/paysupport" | "/suporte":
            return Say(Content(texts.support(shop.name, shop.support)))
        case _:
            return _menu(funnel, shop)


def _tapped(funnel: Funnel, data: str, shop: Shop) -> list[Effect]:
    known = {offer.key for offer in shop.offers}
    if data.startswith(BUY) and data.removeprefix(BUY) in known:
        return [Buy(data.removeprefix(BUY))]
    if data.startswith(CHECK):
        return [Check(data.removeprefix(CHECK))]
    return [_menu(funnel, shop)]


def _unasked(state: State) -> State:
    return {name: value for name, value in state.items() if name != "asking"}


def _ask(state: State, offer_key: str, fields: list[str]) -> tuple[State, list[Effect]]:
    """asking: {offer, fields}; the first of the fields is the one that was asked for."""
    return {**state, "asking": {"offer": offer_key, "fields": fields}}, [_question(texts.asked(fields[0]))]


def _told(funnel: Funnel, state: State, words: str, shop: Shop) -> tuple[State, list[Effect]]:
    offer_key, (field, *others) = state["asking"]["offer"], state["asking"]["fields"]
    value = payer.read(PayerField(field), words)
    if value is None:
        return state, [_question(texts.misunderstood(field))]
    learned = Learn(PayerField(field), value)
    if not others:
        return _unasked(state), [learned, *_tapped(funnel, BUY + offer_key, shop)]
    state, effects = _ask(state, offer_key, others)
    return state, [learned, *effects]


def _question(text: str) -> Say:
    return Say(Content(text, (Button(texts.NEVER_MIND, data=MENU),)))


def _pix(pix: PixReady) -> Content:
    copy = (Button(texts.COPY, copy=pix.code),) if len(pix.code) <= LONGEST_COPY else ()
    paid = Button(texts.I_PAID, data=CHECK + pix.payment_id)
    text = texts.pix(pix.offer_name, pix.amount_cents, pix.code, pix.minutes, pix.notice)
    return Content(text, (*copy, paid), qr=pix.code)
