"""Connecting bots: who the token belongs to, where its updates go, and what the seller must do when it is refused."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import select

from bot_manager import log
from bot_manager.addresses import bot_webhook_url
from bot_manager.app import Threads, settings, vault
from bot_manager.channels.base import ChannelError, TokenRefused
from bot_manager.channels.telegram import Identity
from bot_manager.doors import telegram_secret
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue, set_timer
from bot_manager.messages import OPEN, send_job
from models import Bot, BotState, Customer, Message, db

logger = logging.getLogger(__name__)

TRY_AGAIN_S = 30


class Connecting(Protocol):
    async def connect(self, token: str, webhook_url: str | None, secret: str) -> Identity:
        """Learns who the bot is and says where its updates go. Raises ChannelError."""


class Acknowledging(Protocol):
    async def acknowledge(self, token: str, tap_id: str) -> None:
        """Stops the spinner on a tapped button. Raises ChannelError."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the version it was read at: a bot may get another while we ask."""

    bot_id: int
    version: int
    token: str
    webhook_url: str | None
    secret: str


def connect_job(bot: Bot) -> Job:
    return Job(Name.CONNECT_BOT, bot.seller_id, log.trace_id.get() or log.new_trace_id(), {"bot": bot.id})


async def connect(threads: Threads, channel: Connecting, seller: int, bot: int) -> None:
    """Connects the bot, and again in half a minute when its channel can't be reached."""
    token = await threads.in_db(seller, _token, bot)
    if token is None:
        return
    try:
        identity = await channel.connect(token.token, token.webhook_url, token.secret)
    except ChannelError as error:
        await threads.in_db(seller, _refused, token, error)
    else:
        await threads.in_db(seller, _connected, token, identity)


async def answer_tap(threads: Threads, channel: Acknowledging, seller: int, bot: int, tap: str) -> None:
    """Best effort: a spinner that goes on is no reason for anything."""
    if token := await threads.in_db(seller, _token, bot):
        try:
            await channel.acknowledge(token.token, tap)
        except ChannelError as error:
            logger.info("a tap was not acknowledged", extra={"why": str(error)})


def _token(bot_id: int) -> Token | None:
    bot = db.session.get(Bot, bot_id)
    if bot is None or bot.token_sealed is None or bot.archived_at:
        return None
    token = vault().open(bot.token_sealed, "bot.token", bot.seller_id)
    url = bot_webhook_url(bot) if settings().public_url else None
    return Token(bot.id, bot.version, token, url, telegram_secret(bot.public_id))


def _connected(token: Token, identity: Identity) -> None:
    bot = _same(token)
    if bot is None:
        return
    bot.username, bot.name = identity.username, identity.name
    bot.state, bot.state_note = BotState.ACTIVE, None
    waiting = select(Message.customer_id).where(Message.state.in_(OPEN)).join(Customer).where(Customer.bot_id == bot.id)
    customers = db.session.scalars(waiting.distinct()).all()
    if customers:
        enqueue(*(send_job(bot.seller_id, bot.id, customer, log.trace_id.get()) for customer in customers))


def _refused(token: Token, error: ChannelError) -> None:
    bot = _same(token)
    if bot is None:
        return
    if isinstance(error, TokenRefused):
        bot.state = BotState.REFUSED
        bot.state_note = "O Telegram recusou o token. Gere outro no @BotFather e troque aqui."
        logger.error("a bot's token is refused", extra={"bot": bot.id})
        return
    bot.state = BotState.UNREACHABLE if bot.username is None else bot.state
    bot.state_note = f"A última tentativa de conexão falhou ({datetime.now(UTC):%H:%M} UTC): {error}"[:300]
    set_timer(f"connect:{bot.id}", connect_job(bot), TRY_AGAIN_S)


def _same(token: Token) -> Bot | None:
    return db.session.scalar(select(Bot).where(Bot.id == token.bot_id, Bot.version == token.version).with_for_update())
