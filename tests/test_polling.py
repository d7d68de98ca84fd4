"""Polling: a laptop without a public address sells all the same, and one process at a time polls a bot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread

import pytest

from bot_manager.app import Threads
from bot_manager.bots import polling
from bot_manager.bots.polling import IN_USE, Locks, poll_bots
from bot_manager.channels.telegram import Telegram
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.until import until
from tests.world import Status

HELD = "select objid as bot, pid from pg_locks where locktype = 'advisory' and classid = 7263003"
CONFLICT = Status(
    409, {"ok": False, "error_code": 409, "description": "Conflict: terminated by other getUpdates request"}
)


@pytest.fixture
def laptop(line: Line) -> Line:
    line.app.extensions["settings"] = replace(line.settings, public_url=None)
    return line


@contextmanager
def polling_bots(line: Line) -> Iterator[None]:
    """A process that polls, beside the test."""
    loop, stopping = asyncio.new_event_loop(), asyncio.Event()
    threads = Threads(line.app, 2)

    async def poll() -> None:
        async with Telegram(line.settings.telegram_api_url) as telegram:
            await poll_bots(threads, telegram, stopping)

    thread = Thread(target=loop.run_until_complete, args=(poll(),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()
        threads.executor.shutdown()


def polled(line: Line, token: str) -> bool:
    return line.world.telegram.postman.box(line.world.telegram.bot(token)).poll is not None


def test_a_bot_is_polled_while_it_is_connected_and_no_longer(laptop: Line) -> None:
    shop = open_shop(laptop)
    assert laptop.world.telegram.webhook(shop.token) is None
    with polling_bots(laptop):
        person = laptop.world.telegram.person()
        # Nonsense is kept and acknowledged: it must not come again for ever, with all that is behind it.
        laptop.world.telegram.enqueue(laptop.world.telegram.bot(shop.token), "callback_query", "nonsense")
        person.start(shop.token)
        with laptop.working():
            person.wait_button(shop.token, "Curso Completo", 15)
        assert {"state": "dead"} in laptop.rows("select state from inbox")
        laptop.change("update bot set archived_at = now()")
        until(lambda: not laptop.rows(HELD))
        person.say(shop.token, "oi")
        laptop.world.telegram.wait_for(lambda: len(laptop.world.telegram.pending(shop.token)) == 1)


def test_of_two_processes_one_polls_a_bot_and_the_other_when_that_one_lost_its_lock(laptop: Line) -> None:
    shops = [open_shop(laptop) for _ in range(3)]
    with polling_bots(laptop), polling_bots(laptop):
        until(lambda: len(laptop.rows(HELD)) == 3)
        before = {row["pid"] for row in laptop.rows(HELD)}
        for pid in before:
            laptop.change("select pg_terminate_backend(:pid)", pid=pid)
        until(lambda: len(laptop.rows(HELD)) == 3 and not before & {row["pid"] for row in laptop.rows(HELD)})
        for shop in shops:
            laptop.world.telegram.person().start(shop.token)
        until(lambda: len(laptop.rows("select 1 from inbox")) == 3)
        until(lambda: all(polled(laptop, shop.token) for shop in shops))
    assert not laptop.rows(HELD)


def test_a_process_that_lost_its_locks_polls_no_more(laptop: Line) -> None:
    shop = open_shop(laptop)

    async def lose() -> tuple[int, int]:
        threads, polls, locks = Threads(laptop.app, 2), {}, Locks(laptop.settings.database_url or "")
        async with Telegram(laptop.settings.telegram_api_url) as telegram:
            await polling._adjust(threads, telegram, locks, polls)
            began = len(polls)
            other = Locks(laptop.settings.database_url or "")
            await asyncio.to_thread(laptop.change, "select pg_terminate_backend(:pid)", pid=laptop.rows(HELD)[0]["pid"])
            await asyncio.to_thread(until, lambda: not laptop.rows(HELD))
            assert await other.take([shop.bot_id]) == {shop.bot_id}
            await polling._adjust(threads, telegram, locks, polls)
            left = len(polls)
            await polling._adjust(threads, telegram, locks, polls)
            await other.close()
            await locks.close()
        threads.executor.shutdown()
        return began, left + len(polls)

    assert asyncio.run(lose()) == (1, 0)


def test_a_token_that_is_swapped_is_polled_under_its_new_name_only(laptop: Line) -> None:
    old = open_shop(laptop)
    with polling_bots(laptop):
        until(lambda: polled(laptop, old.token))
        _swap(laptop, old, "100999:AAE-fresh")
        until(lambda: polled(laptop, "100999:AAE-fresh"))
        person = laptop.world.telegram.person()
        person.start(old.token)
        person.start("100999:AAE-fresh")
        until(lambda: laptop.rows("select 1 from inbox"))
        assert len(laptop.world.telegram.pending(old.token)) == 1
        assert [row["bot"] for row in laptop.rows(HELD)] == [old.bot_id]


def _swap(line: Line, shop: Shop, token: str) -> None:
    line.world.telegram.add_bot(token, "fresca_bot")
    sealed = line.app.extensions["vault"].seal(token, "bot.token", shop.seller_id)
    line.change(
        "update bot set token_sealed = :sealed, version = version + 1 where id = :bot", sealed=sealed, bot=shop.bot_id
    )


def test_a_token_in_use_elsewhere_is_told_the_seller_and_forgotten_when_it_is_over(
    laptop: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "REST_S", 0.01)
    monkeypatch.setattr(polling, "LONG_REST_S", 0.5)
    shop = open_shop(laptop)
    laptop.world.telegram.fail("/getUpdates", how=CONFLICT, times=4)
    with polling_bots(laptop):
        until(lambda: states(laptop) == [("unreachable", IN_USE)])
        until(lambda: states(laptop) == [("active", None)])
        laptop.world.telegram.person().start(shop.token)
        until(lambda: laptop.rows("select 1 from inbox"))


def test_one_conflict_is_no_reason_to_tell_anybody(laptop: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "REST_S", 0.01)
    shop = open_shop(laptop)
    laptop.world.telegram.fail("/getUpdates", how=CONFLICT, times=2)
    with polling_bots(laptop):
        laptop.world.telegram.person().start(shop.token)
        until(lambda: laptop.rows("select 1 from inbox"))
    assert states(laptop) == [("active", None)]


def test_a_webhook_left_behind_is_taken_back(laptop: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "REST_S", 0.01)
    monkeypatch.setattr(polling, "LONG_REST_S", 0.1)
    laptop.app.extensions["settings"] = laptop.settings
    shop = open_shop(laptop)
    assert laptop.world.telegram.webhook(shop.token)
    laptop.app.extensions["settings"] = replace(laptop.settings, public_url=None)
    with polling_bots(laptop):
        until(lambda: states(laptop) == [("unreachable", IN_USE)])
        laptop.pass_time(5)
        until(lambda: states(laptop) == [("active", None)])
    assert laptop.world.telegram.webhook(shop.token) is None


def test_a_token_refused_while_polling_stops_the_bot(laptop: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "REST_S", 0.01)
    shop = open_shop(laptop)
    laptop.world.telegram.revoke(shop.token)
    with polling_bots(laptop):
        until(lambda: laptop.rows("select 1 from timer where key like 'connect:%'"))
        laptop.pass_time(5)
        until(lambda: states(laptop)[0][0] == "refused")
        until(lambda: not laptop.rows(HELD))


def test_polling_outlives_a_restart_of_the_database(laptop: Line) -> None:
    shop = open_shop(laptop)
    with polling_bots(laptop):
        until(lambda: polled(laptop, shop.token))
        laptop.change("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'bot_manager'")
        laptop.world.telegram.person().start(shop.token)
        until(lambda: laptop.rows("select 1 from inbox"))
        until(lambda: laptop.rows(HELD))


def states(line: Line) -> list[tuple[str, str | None]]:
    return [(row["state"], row["state_note"]) for row in line.rows("select state, state_note from bot")]
