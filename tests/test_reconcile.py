"""After an absence: what was paid meanwhile is learnt by asking, the likeliest first and no faster than is borne."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import create_engine

from bot_manager.jobs import clock
from bot_manager.jobs.clock import Clock
from bot_manager.ops.checker import check
from bot_manager.payments import charges
from bot_manager.payments.reconcile import ABSENT_AFTER_S, LEASE_S, MOST_TRIES
from bot_manager.settings import engine_url
from gateways.pushinpay import gateway as pushinpay
from tests import ledger
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.world import Garbage, Status
from tests.world.bank import Charge
from tests.world.server import Fake

MOMENTS = (
    "payment set created_at = created_at - :gone, expires_at = expires_at - :gone, asked_at = asked_at - :gone",
    "charge_attempt set started_at = started_at - :gone",
    "timer set due_at = due_at - :gone",
    "pulse set at = at - :gone",
)
A_SLICE = 5


def tick(line: Line) -> None:
    """The clock's own tick, as the role that it works as."""
    engine = create_engine(engine_url(line.settings.database_url or ""))
    with engine.begin() as connection:
        clock.sweep(connection)
    engine.dispose()


def go_away(line: Line, **gone: float) -> None:
    """Nobody works here for so long: what happens to the world meanwhile is the test's."""
    tick(line)  # a last time
    for moments in MOMENTS:
        line.change(f"update {moments}", gone=timedelta(**gone))


def come_back(line: Line, slices: int = 1) -> None:
    tick(line)
    line.work()
    for _ in range(slices - 1):
        line.pass_time(A_SLICE)


def pay(shop: Shop, payment: dict) -> None:
    """At the bank, and nobody is told: whoever was, has given up."""
    world = shop.line.world
    for bank in (world.pushinpay, world.woovi):
        for charge in [c for c in bank.charges.values() if c.pix_code == payment["pix_code"]]:
            charge.pay()


def asked(fake: Fake) -> int:
    return len([call for call in fake.calls if call.method == "GET"])


def open_lookups(line: Line) -> int:
    return int(line.rows("select count(*) as n from lookup")[0]["n"])


def at_rest(line: Line) -> list:
    with line._owner.connect() as connection:
        return check(connection, timedelta(0))


def test_what_was_paid_while_we_were_away_is_delivered_once_and_all_the_books_agree(line: Line) -> None:
    shops = [open_shop(line), open_shop(line, gateways=("woovi",))]
    people = [line.world.telegram.person() for _ in range(4)]
    sales = [(shop, shop.buy(person)) for shop, person in zip([*shops, *shops], people, strict=True)]
    go_away(line, minutes=40)  # the first two codes expire, and both are still paid
    line.change("update payment set status = 'expired' where id in (select id from payment order by id limit 2)")
    for shop, payment in sales:
        pay(shop, payment)
    before = asked(line.world.pushinpay)

    come_back(line)

    assert line.rows("select count(*) as n from payment where status = 'paid'") == [{"n": 4}]
    assert asked(line.world.pushinpay) - before == 2
    assert ledger.differences(line.world, line.rows) == []
    assert ledger.repeated(line.world, line.rows) == 0
    assert at_rest(line) == []
    assert line.rows("select charges from absence") == [{"charges": 4}]


def test_the_same_absence_is_seen_once_by_however_many_clocks(line: Line) -> None:
    shop = open_shop(line)
    pay(shop, shop.buy(line.world.telegram.person()))
    go_away(line, hours=3)

    come_back(line)
    come_back(line)

    assert line.rows("select count(*) as n from absence") == [{"n": 1}]
    assert asked(line.world.pushinpay) == 1


def test_a_short_restart_is_no_absence(line: Line) -> None:
    open_shop(line).buy(line.world.telegram.person())
    go_away(line, seconds=ABSENT_AFTER_S - 5)

    come_back(line)

    assert (open_lookups(line), line.rows("select * from absence")) == (0, [])


def test_a_first_tick_ever_is_no_absence(line: Line) -> None:
    tick(line)
    tick(line)

    assert line.rows("select * from absence") == []


def test_the_longer_we_were_away_the_older_the_codes_that_are_asked_about(line: Line) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())
    line.change("update payment set expires_at = now() - interval '5 hours', status = 'expired'")

    go_away(line, minutes=10)
    tick(line)
    assert open_lookups(line) == 0

    go_away(line, hours=1)
    tick(line)
    assert open_lookups(line) == 1


def test_an_account_is_asked_no_faster_than_its_gateway_bears(line: Line) -> None:
    shop = open_shop(line)
    add_charges(shop, shop.buy(line.world.telegram.person()), 11)
    go_away(line, hours=3)
    slice_of = round(pushinpay.asks_a_second * A_SLICE)

    come_back(line)
    assert asked(line.world.pushinpay) == slice_of

    line.pass_time(0)
    assert asked(line.world.pushinpay) == slice_of
    line.pass_time(A_SLICE)
    assert asked(line.world.pushinpay) == 2 * slice_of
    line.pass_time(A_SLICE)
    assert (asked(line.world.pushinpay), open_lookups(line)) == (12, 0)
    assert not line.rows("select 1 from timer where key like 'reconcile:%'")


def add_charges(shop: Shop, payment: dict, many: int) -> None:
    """Further attempts at the same sale, known to the bank."""
    [account] = {charge.account for charge in shop.line.world.pushinpay.charges.values()}
    for _ in range(many):
        charge = Charge(account, payment["amount_cents"], payment["pix_code"])
        shop.line.world.pushinpay.charges[charge.id] = charge
        shop.line.change(
            "insert into charge_attempt (seller_id, payment_id, gateway_id, provider_id, state)"
            " select seller_id, id, gateway_id, :provider, 'unknown' from payment where id = :id",
            provider=charge.id,
            id=payment["id"],
        )


def test_looks_that_fell_due_meanwhile_do_not_all_ask_at_once(line: Line) -> None:
    shop = open_shop(line)
    for _ in range(3):
        shop.buy(line.world.telegram.person())
    go_away(line, hours=3)

    tick(line)

    names = line.rows("select task_name from procrastinate_jobs where status = 'todo'")
    assert [row["task_name"] for row in names] == ["reconcile"]
    assert line.rows("select count(*) as n from timer where key like 'look:%' and due_at > now()") == [{"n": 3}]


def test_who_said_they_paid_comes_first_then_open_codes_and_the_newest(line: Line) -> None:
    shop = open_shop(line)
    old, expired, new, said = [shop.buy(line.world.telegram.person())["id"] for _ in range(4)]
    line.change("update payment set expires_at = now() - interval '10 minutes' where id = :id", id=expired)
    line.change("update payment set asked_at = now() where id = :id", id=said)
    line.change("update payment set created_at = created_at - interval '5 minutes' where id = :id", id=said)

    go_away(line, hours=3)
    tick(line)

    order = line.rows("select payment_id from lookup order by place")
    assert [row["payment_id"] for row in order] == [said, new, old, expired]


def test_a_gateway_that_is_down_holds_up_no_other_and_is_asked_again_ever_more_seldom(line: Line) -> None:
    slow, quick = open_shop(line), open_shop(line, gateways=("woovi",))
    sales = [(shop, shop.buy(line.world.telegram.person())) for shop in (slow, slow, quick)]
    go_away(line, hours=3)
    for shop, payment in sales:
        pay(shop, payment)
    line.world.pushinpay.fail("GET /api/transactions", how=Status(503, {}), times=None)

    come_back(line)
    assert [p["status"] for p in quick.payments()] == ["paid"]
    assert asked(line.world.pushinpay) == 1
    line.pass_time(A_SLICE)
    assert asked(line.world.pushinpay) == 2
    line.pass_time(A_SLICE)
    assert asked(line.world.pushinpay) == 2

    line.world.pushinpay.heal()
    line.pass_time(60)
    assert [p["status"] for p in slow.payments()] == ["paid", "paid"]
    assert at_rest(line) == []


def test_a_charge_whose_answer_is_of_no_use_does_not_hold_up_the_next(line: Line) -> None:
    shop = open_shop(line)
    sales = [shop.buy(line.world.telegram.person()) for _ in range(2)]
    go_away(line, hours=3)
    for payment in sales:
        pay(shop, payment)
    line.world.pushinpay.fail("GET /api/transactions", how=Garbage(), times=1)

    come_back(line)
    assert [p["status"] for p in shop.payments()].count("paid") == 1
    line.pass_time(A_SLICE)

    assert [p["status"] for p in shop.payments()] == ["paid", "paid"]


def test_a_charge_that_can_never_be_looked_up_is_given_up(line: Line) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())
    go_away(line, hours=3)
    line.world.pushinpay.fail("GET /api/transactions", how=Garbage(), times=None)

    tick(line)
    line.change("update lookup set tries = :tries", tries=MOST_TRIES)
    line.work()

    assert (open_lookups(line), asked(line.world.pushinpay)) == (0, 1)


def test_lookups_of_a_job_that_died_are_taken_up_again(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = open_shop(line)
    pay(shop, shop.buy(line.world.telegram.person()))
    go_away(line, hours=3)
    with monkeypatch.context() as broken:
        broken.setattr(charges, "look_at", lambda _attempt: 1 / 0)
        come_back(line)
    line.change("delete from procrastinate_jobs where task_name = 'reconcile'")

    line.pass_time(LEASE_S)

    assert [p["status"] for p in shop.payments()] == ["paid"]


def test_a_tick_that_fails_stops_no_timers(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())
    monkeypatch.setattr(clock.reconcile, "_FIND", clock.text("select broken"))
    go_away(line, hours=3)

    tick(line)

    assert line.rows("select count(*) as n from procrastinate_jobs where task_name = 'look'") == [{"n": 1}]


def test_the_clock_of_a_worker_sees_the_absence(line: Line) -> None:
    shop = open_shop(line)
    pay(shop, shop.buy(line.world.telegram.person()))
    go_away(line, hours=3)
    ticks = {job.id: job.args for job in Clock(line.settings.database_url or "")._scheduler.get_jobs()}

    assert ticks["sweep"] == (clock.sweep,)


# Without an absence -----------------------------------------------------------------------------------------------


def test_a_gateway_that_does_not_answer_the_last_look_is_asked_on(line: Line) -> None:
    shop = open_shop(line)
    payment = shop.buy(line.world.telegram.person())
    line.world.pushinpay.fail("GET /api/transactions", how=Status(503, {}), times=None)
    line.change("update payment set expires_at = now() - interval '2 hours', created_at = now() - interval '26 hours'")
    line.pass_time(7200)
    pay(shop, payment)

    line.world.pushinpay.heal()
    line.pass_time(900)

    assert [p["status"] for p in shop.payments()] == ["paid"]


def test_a_code_paid_long_after_it_expired_is_found_within_a_day(line: Line) -> None:
    shop = open_shop(line)
    payment = shop.buy(line.world.telegram.person())
    line.change("update payment set expires_at = now() - interval '2 hours', created_at = now() - interval '3 hours'")
    line.pass_time(7200)
    assert [p["status"] for p in shop.payments()] == ["expired"]
    pay(shop, payment)  # and its notices are lost

    line.pass_time(21 * 3600 + 1)

    assert [p["status"] for p in shop.payments()] == ["paid"]
    assert ledger.differences(line.world, line.rows) == []
