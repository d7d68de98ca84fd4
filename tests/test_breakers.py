"""A gateway that fails again and again is left alone, and comes back by itself; a buyer's mistake does neither."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import gateways
from bot_manager.payments import charges
from gateways.breaker import MOST_OF_WINDOW, OPENS_AFTER
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.until import until
from tests.world import Garbage, Hang, Hold, ResetBefore, Status

CREATE = "/pix/cashIn"


@pytest.fixture
def shop(line: Line) -> Shop:
    """pushinpay first, woovi as a reserve."""
    return open_shop(line, gateways=("pushinpay", "woovi"))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Customers with a second of patience."""
    monkeypatch.setattr(charges, "PATIENCE_S", 1.0)
    monkeypatch.setattr(charges, "LEAST_TRY_S", 0.1)
    monkeypatch.setattr(charges, "PROBE_S", 0.2)


def held(line: Line, shop: Shop, name: str = "pushinpay") -> dict[str, Any]:
    return line.rows("select * from gateway where id = :id", id=shop.gateways[name])[0]


def is_open(line: Line, shop: Shop, name: str = "pushinpay") -> bool:
    return held(line, shop, name)["open_until"] is not None


def calls(line: Line) -> int:
    return len([call for call in line.world.pushinpay.calls if call.path.endswith(CREATE)])


def sell(shop: Shop, many: int = 1) -> list[dict]:
    for payment in shop.open_sales(many):
        shop.charge(payment)
    return shop.payments()[-many:]


def paused(line: Line, shop: Shop, name: str = "pushinpay", due: str = "1 hour") -> None:
    """As after five failures. due: when a probe is."""
    line.change(
        "update gateway set failures = 5, failed_at = now(), openings = 1, last_error = 'answered 503',"
        " open_until = now() + cast(:due as interval) where id = :id",
        id=shop.gateways[name],
        due=due,
    )


def attempts(line: Line) -> list[tuple[int, str]]:
    rows = line.rows("select gateway_id, state from charge_attempt order by id")
    return [(row["gateway_id"], row["state"]) for row in rows]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "fault",
    [Status(503, {}), Status(500, {}), Status(401, {}), Status(429, {}), ResetBefore(), Garbage(), Hang()],
    ids=["down", "broken", "credentials", "too many", "reset", "html", "hangs"],
)
def test_five_failures_in_a_row_and_sales_go_past_it(line: Line, shop: Shop, fault: Any) -> None:
    line.world.pushinpay.fail(CREATE, how=fault, times=None)

    sell(shop, OPENS_AFTER - 1)
    assert not is_open(line, shop)
    sell(shop)
    assert is_open(line, shop)
    asked = calls(line)
    after = sell(shop, 3)

    assert calls(line) == asked
    assert {row["gateway_id"] for row in after} == {shop.gateways["woovi"]}
    assert held(line, shop)["failures"] == OPENS_AFTER


def test_one_that_fails_every_other_time_is_left_alone_too(line: Line, shop: Shop) -> None:
    for _ in range(MOST_OF_WINDOW):
        assert not is_open(line, shop)
        line.world.pushinpay.fail(CREATE, how=Status(503, {}))
        sell(shop, 2)

    assert is_open(line, shop)


def test_a_gateway_that_is_not_there_is_left_alone_too(line: Line, shop: Shop) -> None:
    line.world.pushinpay.stop()
    try:
        sell(shop, OPENS_AFTER)
        assert is_open(line, shop)
    finally:
        line.world.pushinpay.start()


@pytest.mark.parametrize("status", [400, 404, 422])
def test_what_a_buyer_or_a_request_did_wrong_never_pauses_a_gateway(line: Line, shop: Shop, status: int) -> None:
    line.world.pushinpay.fail(CREATE, how=Status(status, {"message": "documento do pagador inválido"}), times=None)

    sell(shop, OPENS_AFTER * 2)

    now = held(line, shop)
    assert (calls(line), now["failures"], now["outcomes"], is_open(line, shop)) == (OPENS_AFTER * 2, 0, "", False)


def test_a_refusal_between_failures_is_no_success(line: Line, shop: Shop) -> None:
    pushinpay = line.world.pushinpay
    pushinpay.fail(CREATE, how=Status(503, {}), times=OPENS_AFTER - 1)
    pushinpay.fail(CREATE, how=Status(422, {}), times=1)
    pushinpay.fail(CREATE, how=Status(503, {}), times=1)

    sell(shop, OPENS_AFTER + 1)

    assert is_open(line, shop)


def test_too_small_an_amount_is_not_even_asked_for(line: Line, shop: Shop) -> None:
    for payment in shop.open_sales(OPENS_AFTER + 1, price_cents=49):
        shop.charge(payment)

    assert (calls(line), is_open(line, shop)) == (0, False)


def test_a_success_forgets_what_was_held_against_it(line: Line, shop: Shop) -> None:
    line.world.pushinpay.fail(CREATE, how=Status(503, {}), times=OPENS_AFTER - 1)

    sell(shop, OPENS_AFTER)

    now = held(line, shop)
    assert (now["failures"], now["open_until"], now["last_error"]) == (0, None, None)


def test_when_it_is_due_one_sale_probes_it_and_the_others_go_past(line: Line, shop: Shop) -> None:
    paused(line, shop, due="-1 second")
    hold = Hold()
    line.world.pushinpay.fail(CREATE, how=hold, times=None)
    payments = shop.open_sales(5)

    with ThreadPoolExecutor(5) as threads:
        running = [threads.submit(shop.charge, payment) for payment in payments]
        until(lambda: sum(job.done() for job in running) == 4)
        assert calls(line) == 1
        hold.release()
        [job.result() for job in running]

    made = [row["gateway_id"] for row in shop.payments()]
    assert sorted(made) == sorted([shop.gateways["pushinpay"], *[shop.gateways["woovi"]] * 4])
    assert not is_open(line, shop)


@pytest.mark.usefixtures("hasty")
def test_a_probe_takes_little_of_the_customers_time_and_a_failed_one_doubles_the_pause(
    line: Line, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charges, "PATIENCE_S", 8.0)
    paused(line, shop, due="-1 second")
    line.world.pushinpay.fail(CREATE, how=Hang(), times=None)

    (payment,) = sell(shop)

    (probe,) = line.rows("select ended_at - started_at as took from charge_attempt where state = 'unknown'")
    now = held(line, shop)
    assert payment["gateway_id"] == shop.gateways["woovi"]
    assert probe["took"].total_seconds() < 3  # half of the patience would be its share
    assert now["openings"] == 2
    assert 50 < (now["open_until"] - now["failed_at"]).total_seconds() <= 60


def test_a_probe_that_is_refused_is_followed_by_the_next(line: Line, shop: Shop) -> None:
    paused(line, shop, due="-1 second")
    line.world.pushinpay.fail(CREATE, how=Status(422, {}))

    refused, probed = sell(shop, 2)

    assert (refused["gateway_id"], probed["gateway_id"]) == (shop.gateways["woovi"], shop.gateways["pushinpay"])
    assert not is_open(line, shop)


def test_the_probe_of_a_worker_that_died_is_anothers_after_a_while(line: Line, shop: Shop) -> None:
    paused(line, shop, due="-1 minute")
    line.change("update gateway set probe_until = now() + interval '10 seconds' where kind = 'pushinpay'")
    (passed_by,) = sell(shop)
    line.change("update gateway set probe_until = now() - interval '1 second' where kind = 'pushinpay'")
    (probed,) = sell(shop)

    assert (passed_by["gateway_id"], probed["gateway_id"]) == (shop.gateways["woovi"], shop.gateways["pushinpay"])


def test_when_all_are_left_alone_a_sale_is_tried_all_the_same_the_least_bad_first(line: Line, shop: Shop) -> None:
    paused(line, shop, "pushinpay", due="2 hours")
    paused(line, shop, "woovi", due="1 hour")

    (payment,) = sell(shop)

    assert payment["gateway_id"] == shop.gateways["woovi"]
    assert (is_open(line, shop, "woovi"), is_open(line, shop, "pushinpay")) == (False, True)


def test_one_that_is_left_alone_is_asked_when_the_good_ones_fail(line: Line, shop: Shop) -> None:
    paused(line, shop)
    line.world.woovi.fail("POST", how=Status(503, {}))

    (payment,) = sell(shop)

    assert payment["gateway_id"] == shop.gateways["pushinpay"]


def test_a_sale_is_not_refused_because_another_probes_its_only_gateway(line: Line) -> None:
    shop = open_shop(line)
    paused(line, shop, due="-1 second")
    line.change("update gateway set probe_until = now() + interval '10 seconds' where kind = 'pushinpay'")

    (payment,) = sell(shop)

    assert payment["status"] == "pending"


def test_failures_in_many_threads_are_all_counted(line: Line, shop: Shop) -> None:
    line.world.pushinpay.fail(CREATE, how=Status(503, {}), times=None)

    with ThreadPoolExecutor(OPENS_AFTER) as threads:
        list(threads.map(shop.charge, shop.open_sales(OPENS_AFTER)))

    assert (held(line, shop)["failures"], is_open(line, shop)) == (OPENS_AFTER, True)


# What else must not take a sale down --------------------------------------------------------------------------------


def test_a_bug_in_one_providers_file_costs_only_that_provider(line: Line, shop: Shop, monkeypatch) -> None:
    monkeypatch.setattr(type(gateways.get("pushinpay")), "make_charge", lambda *_: {}["no such key"])

    (payment,) = sell(shop)

    assert payment["gateway_id"] == shop.gateways["woovi"]
    assert attempts(line)[0] == (shop.gateways["pushinpay"], "unknown")


def test_credentials_that_no_key_opens_cost_only_their_account(line: Line, shop: Shop) -> None:
    line.change("update gateway set credentials_sealed = 'nonsense' where kind = 'pushinpay'")

    (payment,) = sell(shop)

    assert payment["gateway_id"] == shop.gateways["woovi"]
    assert "do not open" in held(line, shop)["last_error"]


# Patience -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
def test_however_many_hang_the_customer_is_answered_in_time(line: Line) -> None:
    shop = open_shop(line, gateways=())
    for number in range(8):
        shop.add_gateway("pushinpay", f"conta {number}", priority=number + 1)
    line.world.pushinpay.fail(CREATE, how=Hang(), times=None)
    (payment,) = shop.open_sales(1)

    started = time.monotonic()
    shop.charge(payment)

    assert time.monotonic() - started < 2
    assert shop.payments()[-1]["status"] == "failed"
    assert len(attempts(line)) >= 3


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("hanging", [1, 2])
def test_those_that_hang_leave_the_next_a_fair_try(line: Line, hanging: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charges, "PATIENCE_S", 4.5)
    shop = open_shop(line, gateways=())
    for number in range(hanging):
        shop.add_gateway("pushinpay", f"conta {number}", priority=number + 1)
    good = shop.add_gateway("woovi", "woovi", priority=9)
    line.world.pushinpay.fail(CREATE, how=Hang(), times=None)

    (payment,) = sell(shop)

    assert payment["gateway_id"] == good


@pytest.mark.usefixtures("hasty")
def test_a_charge_that_was_made_without_an_answer_settles_by_its_late_notice(
    line: Line, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charges, "PATIENCE_S", 3.0)
    line.world.pushinpay.fail(CREATE, how=Hang(after=True))
    (payment,) = sell(shop)
    assert attempts(line) == [(shop.gateways["pushinpay"], "unknown"), (shop.gateways["woovi"], "made")]

    (made,) = line.world.pushinpay.charges
    line.world.pushinpay.pay(made)
    line.world.pushinpay.wait_for(lambda: line.rows("select 1 from webhook_receipt"))
    line.work()

    assert [row["status"] for row in shop.payments() if row["id"] == payment["id"]] == ["paid"]


@pytest.mark.slow
def test_ten_real_seconds_are_enough_for_the_third_when_two_hang(line: Line) -> None:
    shop = open_shop(line, gateways=())
    for number in range(2):
        shop.add_gateway("pushinpay", f"conta {number}", priority=number + 1)
    good = shop.add_gateway("woovi", "woovi", priority=9)
    line.world.pushinpay.fail(CREATE, how=Hang(), times=None)
    first, second = shop.open_sales(2)

    started = time.monotonic()
    shop.charge(first)
    took = time.monotonic() - started
    line.world.woovi.fail("POST", how=Hang(), times=None)
    started = time.monotonic()
    shop.charge(second)
    in_vain = time.monotonic() - started

    (made, failed) = shop.payments()[-2:]
    assert (made["gateway_id"], failed["status"]) == (good, "failed")
    assert took < charges.PATIENCE_S
    assert in_vain < charges.PATIENCE_S + 1
