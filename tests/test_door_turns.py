"""Turns at the door: an address that is flooded keeps no other waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import Event
from typing import Any

import pytest

from web import front
from web.turns import Turns

FLOODED, CALM = "/webhook/woovi/flooded", "/webhook/woovi/calm"


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def coming(turns: Turns, address: str, many: int = 1) -> list[asyncio.Task[bool]]:
    tasks = [asyncio.create_task(turns.take(address)) for _ in range(many)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


def served(tasks: list[asyncio.Task[bool]]) -> int:
    return sum(task.done() and task.result() for task in tasks)


def sent_away(tasks: list[asyncio.Task[bool]]) -> int:
    return sum(task.done() and not task.result() for task in tasks)


def test_an_address_holds_one_thread_at_a_time() -> None:
    async def test() -> None:
        turns = Turns(8, 256, 64)
        flood = await coming(turns, "flooded", 10)
        assert served(flood) == 1
        assert served(await coming(turns, "calm")) == 1
        turns.leave("flooded")
        await asyncio.sleep(0)
        assert served(flood) == 2

    run(test)


def test_every_thread_is_used_when_many_addresses_come() -> None:
    async def test() -> None:
        turns = Turns(8, 256, 64)
        assert sum([served(await coming(turns, f"{n}")) for n in range(10)]) == 8

    run(test)


def test_lines_take_turns() -> None:
    async def test() -> None:
        turns, order = Turns(1, 256, 64), []

        async def pass_through(address: str) -> None:
            assert await turns.take(address)
            order.append(address)
            await asyncio.sleep(0)
            turns.leave(address)

        await asyncio.gather(*(pass_through(address) for address in "aaaaaaaabbc"))
        assert "".join(order) == "aabcabaaaaa"

    run(test)


def test_a_line_is_only_so_long() -> None:
    async def test() -> None:
        turns = Turns(2, 256, 5)
        flood = await coming(turns, "flooded", 10)
        assert (served(flood), sent_away(flood)) == (1, 4)

    run(test)


def test_the_longest_line_makes_room_for_who_comes_from_elsewhere() -> None:
    async def test() -> None:
        turns = Turns(2, 10, 64)
        flood = await coming(turns, "flooded", 12)
        assert (served(flood), sent_away(flood)) == (1, 2)
        calm = await coming(turns, "calm")
        assert served(calm) == 1
        assert sent_away(flood) == 3
        assert sent_away(await coming(turns, "flooded")) == 1

    run(test)


def test_when_no_line_is_longer_the_newcomer_is_sent_away() -> None:
    async def test() -> None:
        turns = Turns(2, 4, 64)
        lines = [await coming(turns, address) for address in "abcd"]
        assert sent_away(await coming(turns, "e")) == 1
        assert sum(map(sent_away, lines)) == 0

    run(test)


def test_who_leaves_before_their_turn_leaves_no_gap() -> None:
    async def test() -> None:
        turns = Turns(1, 256, 64)
        await coming(turns, "a")
        [leaver], [stayer] = await coming(turns, "b"), await coming(turns, "c")
        leaver.cancel()
        await asyncio.sleep(0)
        turns.leave("a")
        assert await stayer
        turns.leave("c")
        assert turns._taken() == 0
        assert not turns._lines

    run(test)


def test_whoever_was_waiting_and_left_is_passed_over() -> None:
    async def test() -> None:
        turns = Turns(1, 256, 64)
        await coming(turns, "a")
        leavers, [stayer] = await coming(turns, "b", 3), await coming(turns, "b")
        for leaver in leavers:
            leaver.cancel()
        turns.leave("a")  # before they had time to leave their line
        assert await stayer
        turns.leave("b")
        assert turns._taken() == 0
        assert not turns._lines

    run(test)


def test_a_client_that_goes_away_keeps_its_thread_until_that_is_free() -> None:
    release, began = Event(), Event()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        began.set()
        release.wait(20)
        start_response("200 OK", [])
        return [b""]

    async def test() -> None:
        door = front.create(app, threads=1)
        gone = asyncio.create_task(ask(door, CALM))
        await asyncio.to_thread(began.wait, 20)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert door._turns._taken() == 1
        release.set()
        assert await ask(door, CALM) == 200
        await asyncio.sleep(0)
        assert door._turns._taken() == 0

    run(test)


def test_who_leaves_at_their_turn_gives_the_thread_to_the_next() -> None:
    async def test() -> None:
        turns = Turns(1, 256, 64)
        await coming(turns, "a")
        [leaver], [stayer] = await coming(turns, "b"), await coming(turns, "c")
        turns.leave("a")
        leaver.cancel()
        assert await stayer
        turns.leave("c")
        assert turns._taken() == 0

    run(test)


def address(path: str, *headers: tuple[bytes, bytes], client: str = "127.0.0.1") -> str:
    return front._address({"path": path, "headers": headers, "client": (client, 1)})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/tg/a-bots-id", "/tg/anothers"),
        ("/webhook/woovi/a-secret", "/webhook/woovi/anothers"),
        ("/go/promo", "/go/outra"),
        ("/api/whatsapp/webhook/7", "/api/whatsapp/webhook/8"),
    ],
)
def test_each_address_has_a_line_of_its_own_however_long_its_path(one: str, other: str) -> None:
    assert address(one) != address(other)
    assert address(f"{one}/more/and?more=1") == address(f"{one}/less")


@pytest.mark.parametrize("path", ["", "/", "*", "//", "/" * 50])
def test_an_odd_path_has_an_address_too(path: str) -> None:
    assert isinstance(address(path), str)


def test_who_brings_a_key_has_a_line_of_their_own() -> None:
    assert address("/api/v1/sales", (b"authorization", b"a")) != address("/api/v1/sales", (b"authorization", b"b"))


def test_a_visitor_of_pages_has_one_line_for_all_of_them() -> None:
    cookie = (b"cookie", b"session=mine")
    assert address("/vendas", cookie) == address("/static/app.css", cookie)


@pytest.mark.parametrize(
    "other",
    [
        address("/entrar", client="127.0.0.2"),
        address("/entrar", (b"cookie", b"session=another")),
        address("/entrar", (b"x-forwarded-for", b"203.0.113.9, 198.51.100.1")),
    ],
    ids=["address", "cookie", "address behind a proxy"],
)
def test_visitors_of_pages_are_told_apart(other: str) -> None:
    assert address("/entrar") != other


def test_a_request_whose_turn_comes_too_late_costs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "LONGEST_WAIT", 0.0)
    release, calls = Event(), []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        calls.append(environ["PATH_INFO"])
        release.wait(20)
        start_response("200 OK", [])
        return [b""]

    async def test() -> None:
        door = front.create(app)
        door._turns._served.add(FLOODED)  # somebody has the thread
        late = [asyncio.create_task(ask(door, FLOODED)) for _ in range(3)]
        await asyncio.sleep(0.01)
        door._turns.leave(FLOODED)
        assert [await task for task in late] == [503, 503, 503]
        assert not calls
        assert door._turns._taken() == 0

    run(test)


def test_a_notice_is_answered_while_another_address_is_flooded() -> None:
    release = Event()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == FLOODED:
            release.wait(20)
        start_response("200 OK", [])
        return [b"kept"]

    async def test() -> None:
        door = front.create(app)
        flood = [asyncio.create_task(ask(door, FLOODED)) for _ in range(200)]
        calm = await ask(door, CALM)
        waiting = sum(not task.done() for task in flood)
        release.set()
        answers = [(await task) for task in flood]
        assert calm == 200
        assert waiting > front.MAX_IN_LINE
        assert answers.count(200) == front.MAX_IN_LINE + 1
        assert answers.count(503) == 200 - front.MAX_IN_LINE - 1

    run(test)


async def ask(door: front.Front, path: str) -> int:
    answers: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": path}
    scope |= {"query_string": b"", "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    await door(scope, receive, send)
    return int(answers[0]["status"])
