"""Início: how much came in today, is everything working, what needs me?"""

from __future__ import annotations

import hashlib

from flask import Blueprint, g, render_template, request
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from web.panel import alerts, chart, figures
from web.panel.format import day
from web.panel.sales import latest
from web.panel.states import BOT, word

room = Blueprint("home", __name__)


@room.get("/")
def index() -> ResponseReturnValue:
    live, version = _live()
    today = day(figures.today_in(g.place.zone))
    return render_template("panel/home.html", live=live, version=version, today=today)


@room.get("/ao-vivo")
def live() -> ResponseReturnValue:
    """The page's inside, asked for every ten seconds; 204 while it would be the same."""
    html, version = _live()
    if request.args.get("v") == version:
        return "", 204
    return render_template("panel/_live.html", live=html, version=version)


def _live() -> tuple[Markup, str]:
    """The inside, and its version, by which the browser says what it shows already."""
    seller, zone = g.place.seller, g.place.zone
    days = figures.by_day(seller.id, zone)
    html = render_template(
        "panel/_home.html",
        today=figures.today(seller.id, zone),
        chart=chart.draw(days) if any(day.cents for day in days) else None,
        sales=latest(6),
        bots=figures.by_bot(seller.id, zone),
        alerts=alerts.alerts(),
        steps=alerts.steps(),
        bot_word=lambda state: word(BOT, state),
    )
    return Markup(html), hashlib.sha256(html.encode()).hexdigest()[:16]  # noqa: S704
