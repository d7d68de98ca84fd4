"""Polling: a laptop without a public address sells all the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from threading import Thread

from bot_manager.app import Threads
from bot_manager.channels.telegram import Telegram
from bot_manager.polling import poll_bots
from tests.line import Line
from tests.shops import open_shop


def test_a_bot_is_polled_while_it_is_connected_and_no_longer(line: Line) -> None:
    line.app.extensions["settings"] = replace(line.settings, public_url=None)
    shop = open_shop(line)
    assert line.world.telegram.webhook(shop.token) is None
    loop, stopping = asyncio.new_event_loop(), asyncio.Event()
    threads = Threads(line.app, 2)

    async def poll() -> None:
        async with Telegram(line.settings.telegram_api_url) as telegram:
            await poll_bots(threads, telegram, stopping)

    polling = Thread(target=loop.run_until_complete, args=(poll(),))
    polling.start()
    try:
        person = line.world.telegram.person()
        # Nonsense is kept and acknowledged: it must not come again for ever, with all that is behind it.
        line.world.telegram.enqueue(line.world.telegram.bot(shop.token), "callback_query", "nonsense")
        person.start(shop.token)
        with line.working():
            person.wait_button(shop.token, "Curso Completo")
        assert {"state": "dead"} in line.rows("select state from inbox")
        line.change("update bot set archived_at = now()")
        person.say(shop.token, "oi")
        line.world.telegram.wait_for(lambda: len(line.world.telegram.pending(shop.token)) == 1)
    finally:
        loop.call_soon_threadsafe(stopping.set)
        polling.join()
        loop.close()
        threads.executor.shutdown()
