"""Whom a sale's charge asks first: exact shares whatever runs at once, and each decision kept with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from bot_manager.payments import charges
from tests.line import Line
from tests.shops import Shop, open_shop

AT_ONCE = 6


def at_once(work: Callable[[int], None], of: Iterable[int]) -> None:
    """Each in a thread of its own, so many at a time, let go together."""
    waiting = list(of)
    barrier = Barrier(AT_ONCE, timeout=30)

    def one(thread: int) -> None:
        barrier.wait()
        for item in waiting[thread::AT_ONCE]:
            work(item)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(one, range(AT_ONCE)))


def decisions(line: Line, payments: Iterable[int] | None = None) -> list[dict]:
    rows = line.rows("select * from decision order by id")
    return [row for row in rows if payments is None or row["payment_id"] in set(payments)]


def firsts(line: Line, shop: Shop, payments: Iterable[int] | None = None) -> Counter[str]:
    names = {number: name for name, number in shop.gateways.items()}
    return Counter(names[row["asks"][0]] for row in decisions(line, payments))


def why(row: dict, gateway: int) -> dict:
    (found,) = (one for one in row["candidates"] if one["gateway"] == gateway)
    return {key: value for key, value in found.items() if key != "gateway"}


@pytest.fixture
def shop(line: Line) -> Shop:
    """principal 3 : woovi 1, of one priority."""
    opened = open_shop(line, gateways=())
    opened.add_gateway("pushinpay", "principal", weight=3)
    opened.add_gateway("woovi", "woovi", weight=1)
    return opened


# Turns --------------------------------------------------------------------------------------------------------------


def test_charges_at_once_share_exactly_by_weight_and_take_each_turn_once(line: Line, shop: Shop) -> None:
    payments = shop.open_sales(40)

    at_once(shop.charge, payments)

    assert firsts(line, shop) == {"principal": 30, "woovi": 10}
    assert sorted(row["turn"] for row in decisions(line)) == list(range(40))
    assert (len(line.world.pushinpay.charges), len(line.world.woovi.charges)) == (30, 10)
    assert {row["status"] for row in shop.payments()} == {"pending"}


def test_the_same_job_in_many_threads_is_one_run(line: Line, shop: Shop) -> None:
    (payment,) = shop.open_sales(1)
    busy = []

    def run(_: int) -> None:
        try:
            shop.charge(payment)
        except charges.Busy as error:
            busy.append(error)

    at_once(run, range(AT_ONCE))

    assert len(decisions(line)) == 1
    assert len(line.world.ledger()) == 1


def test_a_run_after_a_crash_keeps_its_sales_turn(line: Line, shop: Shop) -> None:
    first, second = shop.open_sales(2)
    shop.charge(first)
    line.change("update payment set status = 'new', claimed_at = now() - interval '1 minute'")

    shop.charge(first)
    shop.charge(second)

    assert [(row["payment_id"], row["turn"]) for row in decisions(line)] == [(first, 0), (first, 0), (second, 1)]


def test_a_job_that_is_run_again_takes_no_turn(line: Line, shop: Shop) -> None:
    first, second = shop.open_sales(2)
    for _ in range(3):
        shop.charge(first)
    shop.charge(second)

    assert [row["turn"] for row in decisions(line)] == [0, 1]


def test_test_sales_and_small_ones_take_no_turn_of_the_others(line: Line, shop: Shop) -> None:
    """Sales of two kinds in turn, which not all the same accounts take: each kind has its exact shares."""
    shop.add_gateway("woovi", "woovi b", weight=2)
    big, small = shop.open_sales(12), shop.open_sales(12, price_cents=49)
    tests = shop.open_sales(12, test=True)

    for three in zip(big, small, tests, strict=True):
        for payment in three:
            shop.charge(payment)

    assert firsts(line, shop, big) == {"principal": 6, "woovi": 2, "woovi b": 4}
    assert firsts(line, shop, small) == {"woovi": 4, "woovi b": 8}


def test_fifty_gateways_share_in_any_number_of_threads(line: Line) -> None:
    shop = open_shop(line, gateways=())
    for number in range(50):
        shop.add_gateway("pushinpay", f"conta {number}")

    at_once(shop.charge, shop.open_sales(50))

    assert firsts(line, shop) == dict.fromkeys((f"conta {number}" for number in range(50)), 1)


# Kept with their reason ---------------------------------------------------------------------------------------------


def test_a_decision_says_whom_it_saw_and_what_spoke_against_each(line: Line) -> None:
    shop = open_shop(line, gateways=("pushinpay", "woovi"))
    off, gone, paused = (shop.add_gateway("woovi", name, 3) for name in ("desligada", "antiga", "em pausa"))
    change = "update gateway set {} where id = :id"
    line.change(change.format("active = false"), id=off)
    line.change(change.format("kind = 'extinct'"), id=gone)
    line.change(change.format("failures = 5, openings = 1, open_until = now() + interval '1 hour'"), id=paused)
    (payment,) = shop.open_sales(1, price_cents=49)

    shop.charge(payment)

    (row,) = decisions(line)
    woovi, pushinpay = shop.gateways["woovi"], shop.gateways["pushinpay"]
    assert row["asks"] == [woovi, paused]
    assert (row["turn"], row["round"]) == (0, 1)
    assert why(row, woovi) == {"priority": 2, "weight": 1, "verdict": "fit"}
    assert why(row, pushinpay) == {"priority": 1, "weight": 1, "verdict": "below_minimum"}
    assert why(row, off)["verdict"] == "off"
    assert why(row, gone)["verdict"] == "unknown"
    assert why(row, paused) == {
        "priority": 3,
        "weight": 1,
        "verdict": "paused",
        "failures": 5,
        "open_until": why(row, paused)["open_until"],
    }


def test_a_decision_is_not_kept_when_its_turn_is_not_taken(line: Line, shop: Shop, monkeypatch) -> None:
    (payment,) = shop.open_sales(1)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as crashing:
        crashing.setattr(charges.db.session, "commit", crash)
        with pytest.raises(KeyboardInterrupt):
            shop.charge(payment)
    assert not decisions(line)
    assert not line.rows("select * from turn")

    shop.charge(payment)

    assert [row["turn"] for row in decisions(line)] == [0]


def test_nobody_fit_is_a_decision_too(line: Line) -> None:
    shop = open_shop(line)
    line.change("update gateway set active = false where not own")
    (payment,) = shop.open_sales(1)

    shop.charge(payment)

    (row,) = decisions(line)
    assert (row["asks"], row["candidates"][0]["verdict"]) == ([], "off")
    assert shop.payments()[-1]["status"] == "failed"


def test_another_sellers_accounts_are_never_seen(line: Line, shop: Shop) -> None:
    other = open_shop(line, gateways=("pushinpay", "woovi"))
    (payment,) = shop.open_sales(1)

    shop.charge(payment)

    (row,) = decisions(line)
    assert {one["gateway"] for one in row["candidates"]}.isdisjoint(other.gateways.values())
    assert row["seller_id"] == shop.seller_id
