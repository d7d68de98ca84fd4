"""Segurança: who tried what, how often, and the trace that finds it in the logs."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, func, select

from bot_manager.app import look_across_sellers
from bot_manager.network import strict
from bot_manager.security.events import KEEP_DAYS
from models import SecurityEvent, Seller, db
from web.panel.operator import Chosen, chosen
from web.panel.states import SECURITY, Word, word

room = Blueprint("security", __name__, url_prefix="/seguranca")

PAGE = 50
NAMES = {"gateway": "recebimento", "receipt": "aviso", "gateway_kind": "gateway", "known_bot": "bot existe"}


class Seen(NamedTuple):
    event: SecurityEvent
    seller: str | None
    word: Word


class Count(NamedTuple):
    kind: str
    word: Word
    times: int


@room.get("")
def index() -> ResponseReturnValue:
    look_across_sellers()
    narrowed = chosen("tipo")
    kinds = _counts(narrowed)
    events = _events(narrowed, strict.number(request.args.get("antes", "")))
    return render_template(
        "operator/security.html",
        chosen=narrowed,
        kind=narrowed.word("tipo"),
        kinds=kinds,
        total=sum(one.times for one in kinds),
        events=events[:PAGE],
        more=events[PAGE - 1].event.id if len(events) > PAGE else None,
        keep_days=KEEP_DAYS,
        names=NAMES,
    )


def _events(narrowed: Chosen, before: int | None) -> list[Seen]:
    """One more than a page, to know whether there is another."""
    wanted = select(SecurityEvent, Seller.name).outerjoin(Seller, Seller.id == SecurityEvent.seller_id)
    wanted = wanted.where(*_conditions(narrowed)).order_by(SecurityEvent.id.desc()).limit(PAGE + 1)
    if kind := narrowed.word("tipo"):
        wanted = wanted.where(SecurityEvent.kind == kind)
    if before is not None:
        wanted = wanted.where(SecurityEvent.id < before)
    return [Seen(event, seller, word(SECURITY, event.kind)) for event, seller in db.session.execute(wanted)]


def _counts(narrowed: Chosen) -> list[Count]:
    """How often each kind was seen, repetitions counted."""
    seen = func.sum(SecurityEvent.repeats + 1)
    wanted = select(SecurityEvent.kind, seen).where(*_conditions(narrowed)).group_by(SecurityEvent.kind)
    found = [Count(kind, word(SECURITY, kind), int(count)) for kind, count in db.session.execute(wanted)]
    return sorted(found, key=lambda one: -one.times)


def _conditions(narrowed: Chosen) -> list[ColumnElement[bool]]:
    conditions: list[Any] = []
    if narrowed.seller is not None:
        conditions.append(SecurityEvent.seller_id == narrowed.seller)
    if narrowed.since and narrowed.until:
        conditions += [SecurityEvent.at >= narrowed.since, SecurityEvent.at < narrowed.until]
    return conditions
