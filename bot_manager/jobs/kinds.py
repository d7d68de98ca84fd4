"""What each job's name means: the one place where names are tied to functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from bot_manager import access, conversations, deliveries, messages
from bot_manager.app import Threads
from bot_manager.bots import connections
from bot_manager.channels.panel import InPanel
from bot_manager.channels.telegram import Telegram
from bot_manager.jobs.names import Name
from bot_manager.jobs.queue import Run
from bot_manager.ops import dead_letters
from bot_manager.payments import accounts, charges, ledger, notices, reconcile
from tracking import purchases


@dataclass(frozen=True, slots=True)
class Runtime:
    """What jobs run on: the way to the database, and the channels' connections. alone: they may be what kills."""

    threads: Threads
    telegram: Telegram
    alone: bool = False


def runs(on: Runtime) -> dict[Name, Run]:
    """Every job by its name, ready to be called with `seller` and the job's arguments."""
    channels: dict[str, messages.Channel] = {"telegram": on.telegram, "panel": InPanel()}
    return {
        Name.CONVERSE: _in_thread(on, partial(conversations.converse, count_first=on.alone)),
        Name.SEND: partial(messages.send, on.threads, channels),
        Name.ANSWER_TAP: partial(connections.answer_tap, on.threads, on.telegram),
        Name.DELIVER: partial(deliveries.deliver, on.threads, on.telegram, channels),
        Name.ADMIT: partial(access.admit, on.threads, on.telegram),
        Name.END_ACCESS: partial(access.end, on.threads, on.telegram),
        Name.TAKE_ACCESS_BACK: _in_thread(on, access.take_back),
        Name.CONNECT_BOT: partial(connections.connect, on.threads, on.telegram),
        Name.DISCONNECT_BOT: partial(connections.disconnect, on.threads, on.telegram),
        Name.CHARGE: _in_thread(on, charges.charge),
        Name.LOOK: _in_thread(on, charges.look),
        Name.RECONCILE: _in_thread(on, reconcile.reconcile),
        Name.CONFIRM: _in_thread(on, notices.confirm),
        Name.REMATCH: _in_thread(on, notices.rematch),
        Name.BOOK: _in_thread(on, ledger.book),
        Name.REPORT_PURCHASE: _in_thread(on, purchases.report),
        Name.SEND_CONVERSION: _in_thread(on, purchases.send_meta_pixel_purchase_event),
        Name.FETCH_PUBLIC_KEYS: _in_thread(on, accounts.fetch_public_keys),
        Name.RETRY_BATCH: _in_thread(on, dead_letters.retry_batch),
    }


def _in_thread(on: Runtime, work: Callable[..., None]) -> Run:
    """Synchronous jobs commit as they go: they call other companies between their transactions."""

    async def run(seller: int, **args: Any) -> None:
        await on.threads.run(seller, work, **args)

    return run
