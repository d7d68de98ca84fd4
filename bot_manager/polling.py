"""Polling: for a machine without a public address. One process at a time holds a bot, by an advisory lock."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import psycopg
from sqlalchemy import select

from bot_manager import log, patience, updates
from bot_manager.app import Threads, look_across_sellers, vault
from bot_manager.channels.base import ChannelError
from bot_manager.channels.telegram import Telegram
from models import Bot, BotState, db

logger = logging.getLogger(__name__)

LOOK_AROUND_S = 1.0
PATIENCE_S = 25
REST_S = 5.0


@dataclass(frozen=True, slots=True)
class Polled:
    """A bot as it was when its polling began: another version is another poll."""

    seller_id: int
    bot_id: int
    version: int
    token: str


class Locks:
    """Advisory locks of one connection: all are free again when the process dies."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.AsyncConnection[tuple[bool]] | None = None

    async def take(self, bot_id: int) -> bool:
        cursor = await (await self._open()).execute("select pg_try_advisory_lock(7263003, %s::int)", (bot_id,))
        row = await cursor.fetchone()
        return bool(row and row[0])

    async def release(self, bot_id: int) -> None:
        await (await self._open()).execute("select pg_advisory_unlock(7263003, %s::int)", (bot_id,))

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

    async def _open(self) -> psycopg.AsyncConnection[tuple[bool]]:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(patience.conninfo(self._conninfo), autocommit=True)
        return self._connection


async def poll_bots(threads: Threads, telegram: Telegram, stopping: asyncio.Event) -> None:
    """Keeps one poll a connected bot: added, changed and removed as the rows say, within a second."""
    locks = Locks(threads.app.extensions["settings"].database_url)
    polls: dict[Polled, asyncio.Task[None]] = {}
    while not stopping.is_set():
        try:
            await _adjust(threads, telegram, locks, polls)
        except (psycopg.Error, OSError) as error:
            logger.warning("polling lost its database", extra={"cause": type(error).__name__})
        await _rest(stopping, LOOK_AROUND_S)
    await _end(list(polls.values()))
    await locks.close()


async def _adjust(threads: Threads, telegram: Telegram, locks: Locks, polls: dict[Polled, asyncio.Task[None]]) -> None:
    wanted = set(await threads.in_db(None, _connected))
    if not await locks.alive():
        wanted = set()
    for gone in [bot for bot, task in polls.items() if bot not in wanted or task.done()]:
        await _end([polls.pop(gone)])
        await locks.release(gone.bot_id)
    for bot in wanted - polls.keys():
        if await locks.take(bot.bot_id):
            polls[bot] = asyncio.create_task(_poll(threads, telegram, bot))


def _connected() -> list[Polled]:
    look_across_sellers()
    bots = db.session.scalars(select(Bot).where(Bot.state == BotState.ACTIVE, Bot.archived_at.is_(None)))
    return [Polled(b.seller_id, b.id, b.version, _token(b)) for b in bots if b.token_sealed]


def _token(bot: Bot) -> str:
    return vault().open(bot.token_sealed or b"", "bot.token", bot.seller_id)


async def _poll(threads: Threads, telegram: Telegram, bot: Polled) -> None:
    after = 0
    while True:
        try:
            found = await telegram.updates(bot.token, after, PATIENCE_S)
        except ChannelError as error:
            logger.warning("polling a bot failed", extra={"bot": bot.bot_id, "why": str(error)})
            await asyncio.sleep(REST_S)
            continue
        for body in found:
            # The next call's offset acknowledges it, so it is kept before that.
            with log.bound(log.new_trace_id(), bot.seller_id):
                number = await threads.in_db(bot.seller_id, updates.keep_polled, bot.seller_id, bot.bot_id, body)
            after = max(after, number)


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
