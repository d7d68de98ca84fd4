"""Turns: whoever has much to do does not keep the others waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from bot_manager import sellers
from bot_manager.app import Threads
from bot_manager.channels.telegram import Telegram
from bot_manager.jobs import queue
from bot_manager.jobs.kinds import Runtime, runs
from bot_manager.jobs.names import LANES, Lane, Name
from bot_manager.jobs.queue import Job, Run, Worker, enqueue
from bot_manager.jobs.turns import Turns
from bot_manager.settings import Settings
from models import db
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.until import until

MANY = 400
ONE_OF = {Lane.CHAT: Name.CONVERSE, Lane.MONEY: Name.CONFIRM, Lane.BULK: Name.SEND_CONVERSION}


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seller(app: Flask) -> int:
    made = sellers.create("Loja", "dona@example.com")
    db.session.commit()
    return made.seller_id


@contextmanager
def working(settings: Settings, run: Run, concurrency: int = 16) -> Iterator[None]:
    """A worker beside the test; every job is `run`."""
    loop, stopping = asyncio.new_event_loop(), asyncio.Event()
    worker = Worker(settings.database_url or "", dict.fromkeys(Name, run), concurrency=concurrency)
    thread = Thread(target=loop.run_until_complete, args=(worker.run(stopping),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


def put(seller: int, name: Name, share: str, many: int = 1, **args: Any) -> None:
    enqueue(*(Job(name, seller, "", {"share": share, **args}, share=share) for _ in range(many)))
    db.session.commit()


# The rules by themselves ------------------------------------------------------------------------------------------


def test_a_share_may_hold_no_more_slots_than_it_leaves_free() -> None:
    turns = Turns(["chat"], 4, Time())
    turns.begin(1, "chat", "a")
    assert turns.full() == []
    turns.begin(2, "chat", "a")
    assert turns.full() == [("chat", "a")]
    turns.begin(3, "chat", "b")
    assert turns.full() == [("chat", "a"), ("chat", "b")]
    turns.end(2)
    assert turns.full() == []


def test_a_share_in_one_lane_is_not_held_to_what_it_does_in_another() -> None:
    turns = Turns(["chat", "money"], 4, Time())
    turns.begin(1, "chat", "a")
    turns.begin(2, "chat", "a")
    assert turns.full() == [("chat", "a")]


def test_a_share_that_rests_is_passed_over_until_it_has_rested() -> None:
    time = Time()
    turns = Turns(["chat"], 4, time)
    turns.begin(1, "chat", "a")
    turns.rest("chat", "a", 0.25)
    turns.end(1)
    assert turns.resting() == [("chat", "a")]
    time.now = 0.25
    assert turns.resting() == []


def test_the_lane_served_last_comes_last() -> None:
    turns = Turns(["money", "chat", "bulk"], 4, Time())
    turns.begin(1, "money", "a")
    assert turns.lanes() == [("chat", ""), ("bulk", ""), ("money", "a")]


# On the real queue ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", Lane)
def test_one_job_does_not_wait_for_anothers_backlog(settings: Settings, seller: int, lane: Lane) -> None:
    ran: list[str] = []

    async def run(share: str, **_: Any) -> None:
        ran.append(share)

    put(seller, ONE_OF[lane], "flood", MANY)
    with working(settings, run):
        until(lambda: ran)
        put(seller, ONE_OF[lane], "calm")
        until(lambda: "calm" in ran)
        behind = MANY - ran.count("flood")
        until(lambda: len(ran) == MANY + 1)
    assert behind > 0, "the one job came out last"


def test_shares_take_turns_however_much_each_has_waiting(settings: Settings, seller: int) -> None:
    ran: list[str] = []

    async def run(share: str, **_: Any) -> None:
        ran.append(share)

    put(seller, Name.CONVERSE, "a", 60)
    put(seller, Name.CONVERSE, "b", 20)
    put(seller, Name.CONVERSE, "c", 10)
    with working(settings, run):
        until(lambda: len(ran) == 90)
    assert ran[:30].count("c") >= 8
    assert ran[:50].count("b") >= 17
    assert ran[:50].count("a") >= 17, "whoever has more waiting is served too"


def test_lanes_take_turns(settings: Settings, seller: int) -> None:
    ran: list[str] = []

    async def run(share: str, **_: Any) -> None:
        ran.append(share)

    for lane, name in ONE_OF.items():
        put(seller, name, lane, 30)
    with working(settings, run):
        until(lambda: len(ran) == 90)
    assert all(ran[:45].count(lane) >= 12 for lane in Lane)


def test_slow_jobs_of_one_share_leave_room_for_anothers(settings: Settings, seller: int) -> None:
    release, began = Event(), []

    async def run(share: str, **_: Any) -> None:
        began.append(share)
        if share == "slow":
            await asyncio.to_thread(release.wait, 20)

    put(seller, Name.CONFIRM, "slow", 12)
    with working(settings, run, concurrency=8):
        try:
            until(lambda: began.count("slow") == 4)
            put(seller, Name.CONFIRM, "quick", 3)
            until(lambda: began.count("quick") == 3)
            assert began.count("slow") == 4
        finally:
            release.set()
        until(lambda: began.count("slow") == 12)


def test_what_was_passed_over_goes_on_at_once_when_it_may(
    settings: Settings, seller: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "POLL_S", 3600.0)  # nothing else would wake the worker
    ran = []

    async def run(number: int, **_: Any) -> None:
        ran.append(number)
        if number == 0:
            queue.rest("resting", Name.SEND, 0.1)
        await asyncio.sleep(0)

    put(seller, Name.SEND, "resting", number=0)
    put(seller, Name.SEND, "resting", 30, number=1)
    with working(settings, run, concurrency=2):
        until(lambda: len(ran) == 31)


def test_a_chat_that_is_busy_holds_up_neither_other_chats_nor_other_bots(settings: Settings, seller: int) -> None:
    release, began = Event(), []

    async def run(share: str, chat: str, **_: Any) -> None:
        began.append((share, chat))
        if chat == "busy":
            await asyncio.to_thread(release.wait, 20)

    def say(share: str, chat: str, many: int = 1) -> None:
        enqueue(*(Job(Name.CONVERSE, seller, "", {"share": share, "chat": chat}, chat, share) for _ in range(many)))
        db.session.commit()

    say("a", "busy", 30)
    with working(settings, run):
        try:
            until(lambda: began)
            say("a", "calm")
            say("b", "another")
            until(lambda: len(began) == 3)
        finally:
            release.set()
        until(lambda: len(began) == 32)
    assert sorted(began[:3]) == [("a", "busy"), ("a", "calm"), ("b", "another")]


def test_a_due_timer_does_not_wait_for_anothers_thousands(app: Flask, seller: int, owner: Engine) -> None:
    queue.set_timer("late", Job(Name.LOOK, seller, "", {}, share="calm"), 0)
    db.session.commit()
    flood = (
        "insert into timer (key, kind, seller_id, args, share, trace_id, due_at) select 'early:' || i, 'look', :seller,"
        " '{}', 'flood', '', now() - interval '1 hour' from generate_series(1, 3000) i"
    )
    with owner.begin() as connection:
        connection.execute(text(flood), {"seller": seller})
        queue.sweep_timers(connection)
        shares = connection.execute(text("select distinct share from procrastinate_jobs")).scalars()
        assert set(shares) == {"flood", "calm"}


def test_a_timer_set_by_older_code_becomes_a_job_all_the_same(
    settings: Settings, app: Flask, seller: int, owner: Engine
) -> None:
    ran = []

    async def run(**args: Any) -> None:
        ran.append(args)

    with owner.begin() as connection:
        connection.execute(
            text(
                "insert into timer (key, kind, seller_id, args, trace_id, due_at)"
                " values ('old', 'look', :seller, '{}', '', now())"
            ),
            {"seller": seller},
        )
        queue.sweep_timers(connection)
    with working(settings, run):
        until(lambda: ran)
    assert ran == [{"seller": seller}]


def test_every_job_of_a_chat_is_in_its_bots_share_and_of_money_in_its_sellers(line: Line) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())

    found = line.rows("select distinct task_name, queue_name, share from procrastinate_jobs")

    for row in found:
        bots = {"converse": "bot", "answer_tap": "bot", "send": "send"}
        mine = f"{bots[row['task_name']]}:{shop.bot_id}" if row["task_name"] in bots else f"seller:{shop.seller_id}"
        assert row["share"] == mine, row
        assert row["queue_name"] == LANES[Name(row["task_name"])]
    assert {row["task_name"] for row in found} >= {"converse", "answer_tap", "send", "charge", "connect_bot"}


# Whole chats ------------------------------------------------------------------------------------------------------


def test_another_bots_reply_comes_while_a_bots_backlog_waits(line: Line) -> None:
    _reply_amid_a_backlog(line, 300)


@pytest.mark.slow
def test_another_bots_reply_comes_while_nine_of_ten_thousand_still_wait(line: Line) -> None:
    _reply_amid_a_backlog(line, 10_000)


def _reply_amid_a_backlog(line: Line, many: int) -> None:
    loud, calm = open_shop(line), open_shop(line)
    line.world.telegram.rates = False
    _backlog(line, loud, many)
    person = line.world.telegram.person()
    person.start(calm.token)
    line.world.telegram.wait_for(lambda: line.rows("select 1 from inbox where bot_id = :bot", bot=calm.bot_id))
    with line.working():
        person.wait_button(calm.token, "Curso Completo", 20)
        left = line.rows("select count(*) as n from inbox where state = 'new' and bot_id = :bot", bot=loud.bot_id)
        assert left[0]["n"] > many * 0.9
    line.change("delete from procrastinate_jobs")


def _backlog(line: Line, shop: Shop, many: int) -> None:
    """Somebody's /start, from so many chats, all waiting."""
    person = line.world.telegram.person()
    person.start(shop.token)
    line.world.telegram.wait_for(lambda: line.rows("select 1 from inbox where bot_id = :bot", bot=shop.bot_id))
    line.change(
        "insert into inbox (seller_id, bot_id, channel, chat_id, event_key, update_id, body_sealed, trace_id)"
        " select seller_id, bot_id, channel, 'x' || i, event_key || ':' || i, update_id + i, body_sealed, trace_id"
        " from inbox, generate_series(1, :many) i where bot_id = :bot",
        many=many,
        bot=shop.bot_id,
    )
    line.change(
        "insert into procrastinate_jobs (queue_name, task_name, share, lock, args)"
        " select queue_name, task_name, share, lock || i, args || jsonb_build_object('chat', 'x' || i)"
        " from procrastinate_jobs, generate_series(1, :many) i where task_name = 'converse' and share = :share",
        many=many,
        share=f"bot:{shop.bot_id}",
    )


def test_a_bot_at_its_bound_keeps_no_slot_from_another(line: Line) -> None:
    loud, calm = open_shop(line), open_shop(line)
    line.change("update bot set next_send_at = now() + interval '1 hour' where id = :bot", bot=loud.bot_id)
    for _ in range(40):
        line.world.telegram.person().start(loud.token)
    with line.working():
        until(lambda: _queued(line, loud) == 40)
        person = line.world.telegram.person()
        person.start(calm.token)
        person.wait_button(calm.token, "Curso Completo", 20)
        assert _queued(line, loud) == 40
        line.change("update bot set next_send_at = now() where id = :bot", bot=loud.bot_id)
        until(lambda: not _queued(line, loud))


def test_while_a_bot_waits_for_its_bound_its_chats_do_not_all_ask_again_and_again(line: Line) -> None:
    shop = open_shop(line)
    for _ in range(60):
        line.world.telegram.person().start(shop.token)
    line.world.telegram.wait_for(lambda: not line.world.telegram.pending(shop.token))
    line.change("update bot set next_send_at = now() + interval '1 hour'")
    asyncio.run(_drain_twice(line))
    asked = line.rows("select count(*) as n from procrastinate_jobs where task_name = 'send' and status = 'succeeded'")
    assert 0 < asked[0]["n"] < 40
    assert _queued(line, shop) == 60


async def _drain_twice(line: Line) -> None:
    """Listens to all, then speaks to none."""
    threads = Threads(line.app, 4)
    async with Telegram(line.settings.telegram_api_url) as telegram:
        worker = Worker(line.settings.database_url or "", runs(Runtime(threads, telegram)))
        await worker.drain()
        await worker.drain()
    threads.executor.shutdown()


def _queued(line: Line, shop: Shop) -> int:
    waiting = (
        "select count(*) as n from message m join customer c on c.id = m.customer_id"
        " where m.state = 'queued' and c.bot_id = :bot"
    )
    return int(line.rows(waiting, bot=shop.bot_id)[0]["n"])
