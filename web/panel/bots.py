"""Bots: is it answering, when did it last hear somebody, which link goes into the ad?"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from bot_manager.addresses import link_url
from models import Bot, Link, db
from web.panel.states import BOT, BOT_SENTENCES, Word, word

room = Blueprint("bots", __name__, url_prefix="/bots")


@dataclass(frozen=True, slots=True)
class Shown:
    bot: Bot
    word: Word
    sentence: str
    links: list[str]


@room.get("")
def index() -> ResponseReturnValue:
    bots = select(Bot).where(Bot.archived_at.is_(None)).options(selectinload(Bot.offers))
    links = list(db.session.scalars(select(Link).where(Link.archived_at.is_(None)).order_by(Link.slug)))
    shown = [_shown(bot, links) for bot in db.session.scalars(bots.order_by(Bot.test, Bot.id))]
    return render_template("panel/bots.html", bots=shown, telegram=any(one.bot.token_sealed for one in shown))


def _shown(bot: Bot, links: list[Link]) -> Shown:
    addresses = [link_url(link.slug) for link in links if link.bot_id == bot.id]
    return Shown(bot, word(BOT, bot.state), BOT_SENTENCES.get(bot.state, ""), addresses)
