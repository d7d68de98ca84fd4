"""Polling: for a machine without a public address. One process at a time holds a bot, by an advisory lock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from sqlalchemy import BigInteger, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import SQLAlchemyError

from bot_manager import log
from bot_manager.app import Threads, look_across_sellers, vault
from bot_manager.bots import connections, updates
from bot_manager.channels.base import ChannelError, TokenInUse, TokenRefused
from bot_manager.channels.telegram import Telegram
from bot_manager.database import patience
from bot_manager.jobs.queue import set_timer
from models import Bot, BotState, db

logger = logging.getLogger(__name__)

LOOK_AROUND_S = 1.0
MOST_NEW = 250  # bots whose polling begins at one look around
PATIENCE_S = 25
REST_S = 5.0
LONG_REST_S = 60.0
CONFLICTS = 3  # in a row: one is what a process that took over from a paused one sees
SILENCE_S = 10  # of a process that is paused, after which its bots are another's
IN_USE = "O token está em uso em outro lugar. Pare o outro sistema, ou gere outro token no @BotFather e troque aqui."

_CONNECTED = select(Bot.seller_id, Bot.id, Bot.version).where(
    Bot.archived_at.is_(None),
    Bot.token_sealed.is_not(None),
    or_(Bot.state == BotState.ACTIVE, (Bot.state == BotState.UNREACHABLE) & Bot.username.is_not(None)),
)
_TOKENS = select(Bot.seller_id, Bot.id, Bot.version, Bot.token_sealed, Bot.state_note).where(
    Bot.id == func.any(bindparam("bots", type_=ARRAY(BigInteger))), Bot.token_sealed.is_not(None)
)


@dataclass(frozen=True, slots=True)
class Polled:
    """A bot as it was when its polling began: another version is another poll."""

    seller_id: int
    bot_id: int
    version: int


class Locks:
    """Advisory locks of one connection: all are free again when the process dies, or is paused for long."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None

    async def take(self, bots: Iterable[int]) -> set[int]:
        """Those of the bots that are ours now: not all at once, so that their first calls are no stampede."""
        statement = "select bot from unnest(%s::int[]) bot where pg_try_advisory_lock(7263003, bot) limit %s"
        return {bot for (bot,) in await self._ask(statement, bots, MOST_NEW)}

    async def release(self, bots: Iterable[int]) -> None:
        await self._ask("select pg_advisory_unlock(7263003, bot) from unnest(%s::int[]) bot", bots)

    async def alive(self) -> bool:
        """Whether the connection, and so every lock taken, still stands."""
        try:
            await (await self._open()).execute("select 1")
        except psycopg.Error:
            self._connection = None
            return False
        return True

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _ask(self, statement: LiteralString, bots: Iterable[int], *more: int) -> list[tuple[Any, ...]]:
        wanted = list(bots)
        if not wanted:
            return []
        return await (await (await self._open()).execute(statement, (wanted, *more))).fetchall()

    async def _open(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(patience.conninfo(self._conninfo), autocommit=True)
            await self._connection.execute(
                f"set idle_session_timeout = '{SILENCE_S}s'; set application_name = 'polling'"
            )
        return self._connection


async def poll_bots(threads: Threads, telegram: Telegram, stopping: asyncio.Event) -> None:
    """Keeps one poll a connected bot: added, changed and removed as the rows say, within a second."""
    locks = Locks(threads.app.extensions["settings"].database_url)
    polls: dict[Polled, asyncio.Task[None]] = {}
    while not stopping.is_set():
        try:
            await _adjust(threads, telegram, locks, polls)
        except (psycopg.Error, SQLAlchemyError, OSError) as error:
            logger.warning("polling lost its database", extra={"cause": type(error).__name__})
        await _rest(stopping, LOOK_AROUND_S)
    await _end(list(polls.values()))
    await locks.close()


async def _adjust(threads: Threads, telegram: Telegram, locks: Locks, polls: dict[Polled, asyncio.Task[None]]) -> None:
    if not await locks.alive():
        await _end([polls.pop(bot) for bot in list(polls)])  # another process may hold the bots by now
        return
    wanted = await threads.in_db(None, _connected)
    gone = [bot for bot, task in polls.items() if bot not in wanted or task.done()]
    await _end([polls.pop(bot) for bot in gone])
    await locks.release(bot.bot_id for bot in gone)
    new = wanted - polls.keys()
    taken = await locks.take(bot.bot_id for bot in new)
    ours = {bot for bot in new if bot.bot_id in taken}
    for bot, token, troubled in await threads.in_db(None, _tokens, ours) if ours else ():
        polls[bot] = asyncio.create_task(_poll(threads, telegram, bot, token, not troubled))
    await locks.release(bot.bot_id for bot in ours - polls.keys())  # another version by now: at the next look


def _connected() -> set[Polled]:
    look_across_sellers()
    return {Polled(*row) for row in db.session.execute(_CONNECTED)}


def _tokens(bots: set[Polled]) -> list[tuple[Polled, str, bool]]:
    """Each bot's token, and whether its seller was told that it is in use elsewhere; those of this version only."""
    look_across_sellers()
    rows = db.session.execute(_TOKENS, {"bots": [bot.bot_id for bot in bots]})
    found = ((Polled(row.seller_id, row.id, row.version), row) for row in rows)
    return [(bot, _opened(row), row.state_note == IN_USE) for bot, row in found if bot in bots]


def _opened(row: Any) -> str:
    return vault().open(row.token_sealed, "bot.token", row.seller_id)


async def _poll(threads: Threads, telegram: Telegram, bot: Polled, token: str, well: bool) -> None:
    after = conflicts = 0
    while True:
        try:
            found = await telegram.updates(token, after, PATIENCE_S if well else 0)
        except ChannelError as error:
            logger.warning("polling a bot failed", extra={"bot": bot.bot_id, "why": str(error)})
            conflicts = conflicts + 1 if isinstance(error, TokenInUse) else 0
            await _note_failure(threads, bot, error, conflicts)
            well = False
            await asyncio.sleep(LONG_REST_S if conflicts >= CONFLICTS else REST_S)
            continue
        if not well:
            await threads.in_db(bot.seller_id, _works, bot)
        conflicts, well = 0, True
        for body in found:
            # The next call's offset acknowledges it, so it is kept before that.
            with log.bound(log.new_trace_id(), bot.seller_id):
                number = await threads.in_db(bot.seller_id, updates.keep_polled, bot.seller_id, bot.bot_id, body)
            after = max(after, number)


async def _note_failure(threads: Threads, bot: Polled, error: ChannelError, conflicts: int) -> None:
    if isinstance(error, TokenRefused):
        await threads.in_db(bot.seller_id, _connect_again, bot, str(error))
    elif conflicts == CONFLICTS:
        await threads.in_db(bot.seller_id, _in_use, bot, str(error))


def _works(polled: Polled) -> None:
    bot = db.session.scalar(_same(polled).where(Bot.state_note == IN_USE))
    if bot:
        bot.state, bot.state_note = BotState.ACTIVE, None


def _in_use(polled: Polled, why: str) -> None:
    """Tells the seller. A webhook that was left behind is taken back; one that comes again is somebody else's."""
    bot = db.session.scalar(_same(polled))
    if bot is None:
        return
    bot.state, bot.state_note = BotState.UNREACHABLE, IN_USE
    logger.error("a bot's token is in use elsewhere", extra={"bot": bot.id})
    if "webhook" in why:
        _connect_again(polled, why)


def _connect_again(polled: Polled, _why: str) -> None:
    """Whether the token is good is the connection's to find out, and the seller is told there."""
    bot = db.session.scalar(_same(polled))
    if bot:
        set_timer(f"connect:{bot.id}", connections.connect_job(bot), 2)


def _same(polled: Polled) -> Any:
    return select(Bot).where(Bot.id == polled.bot_id, Bot.version == polled.version)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            logger.warning("a poll broke off, and begins again", exc_info=outcome)


async def _rest(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        pass
