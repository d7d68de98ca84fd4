"""Connecting bots: who the token belongs to, where its updates go, and what the seller must do when it is refused."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import select

from bot_manager import log
from bot_manager.addresses import bot_webhook_url
from bot_manager.app import Threads, look_across_sellers, settings, vault
from bot_manager.channels.base import ChannelError, TokenRefused
from bot_manager.channels.telegram import Identity
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Job, enqueue, set_timer
from bot_manager.messages import OPEN, send_job
from bot_manager.security.doors import telegram_secret
from bot_manager.security.vault import fingerprint
from models import Bot, BotState, Customer, Message, db

logger = logging.getLogger(__name__)

TRY_AGAIN_S = 30
LET_GO_AGAIN_S = 60
OLD_TOKENS = "bot.old_tokens"


class Connecting(Protocol):
    async def connect(self, token: str, webhook_url: str | None, secret: str) -> Identity:
        """Learns who the bot is and says where its updates go. Raises ChannelError."""


class Disconnecting(Protocol):
    async def disconnect(self, token: str, address: str) -> None:
        """Has no more updates pushed to the address. Raises ChannelError."""


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


def let_go(bot: Bot, token: str | None = None) -> None:
    """Has a bot's updates pushed to us no longer: those of a token that it has no more, or of its own if archived."""
    if token:
        bot.old_tokens_sealed = _sealed(bot, [*_old_tokens(bot), token])
    enqueue(_disconnect_job(bot))


async def disconnect(threads: Threads, channel: Disconnecting, seller: int, bot: int) -> None:
    """Takes back the webhooks of the tokens let go, and again in a minute those that can't be reached."""
    address, tokens = await threads.in_db(seller, _tokens_let_go, bot)
    for token in tokens:
        try:
            await channel.disconnect(token, address)
        except TokenRefused:
            pass  # revoked: nothing is pushed any more
        except ChannelError as error:
            logger.warning("a bot let go could not be disconnected", extra={"bot": bot, "why": str(error)})
            await threads.in_db(seller, _try_again, bot)
            continue
        await threads.in_db(seller, _gone, bot, token)
        await _connect_new_owner(threads, token)


async def _connect_new_owner(threads: Threads, token: str) -> None:
    """Whoever has the token by now may have connected it just before its webhook was taken back."""
    if owner := await threads.in_db(None, _owner, token):
        await threads.in_db(owner[0], _connect_again, owner[1])


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


# Letting go -------------------------------------------------------------------------------------------------------


def _disconnect_job(bot: Bot) -> Job:
    return Job(Name.DISCONNECT_BOT, bot.seller_id, log.trace_id.get() or log.new_trace_id(), {"bot": bot.id})


def _tokens_let_go(bot_id: int) -> tuple[str, list[str]]:
    """The end of the bot's address, and the tokens that nothing is to be pushed for."""
    bot = db.session.get_one(Bot, bot_id)
    tokens = _old_tokens(bot)
    if bot.archived_at and bot.token_sealed:
        tokens.append(vault().open(bot.token_sealed, "bot.token", bot.seller_id))
    return f"/tg/{bot.public_id}", tokens


def _old_tokens(bot: Bot) -> list[str]:
    if bot.old_tokens_sealed is None:
        return []
    return list(vault().open_json(bot.old_tokens_sealed, OLD_TOKENS, bot.seller_id)["tokens"])


def _sealed(bot: Bot, tokens: list[str]) -> bytes | None:
    return vault().seal_json({"tokens": tokens}, OLD_TOKENS, bot.seller_id) if tokens else None


def _gone(bot_id: int, token: str) -> None:
    bot = db.session.get_one(Bot, bot_id, with_for_update=True)
    bot.old_tokens_sealed = _sealed(bot, sorted({*_old_tokens(bot)} - {token}))


def _try_again(bot_id: int) -> None:
    bot = db.session.get_one(Bot, bot_id)
    set_timer(f"disconnect:{bot.id}", _disconnect_job(bot), LET_GO_AGAIN_S)


def _owner(token: str) -> tuple[int, int] | None:
    look_across_sellers()
    found = db.session.execute(select(Bot.seller_id, Bot.id).where(Bot.token_hash == fingerprint(token))).first()
    return (found.seller_id, found.id) if found else None


def _connect_again(bot_id: int) -> None:
    enqueue(connect_job(db.session.get_one(Bot, bot_id)))
