"""The Purchase at Meta: once, with what the click told, never in the way of money."""

from __future__ import annotations

import pytest
import requests

from bot_manager.app import vault
from bot_manager.shop.apply import apply
from bot_manager.shop.export import export
from bot_manager.shop.file import read
from models import Destination, db
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.world import ResetAfter, ResetBefore, Status


def sell(line: Line, **shop: object) -> Shop:
    opened = open_shop(line, **shop)
    opened.buy(line.world.telegram.person(first_name="Ana"))
    line.world.pushinpay.pay(next(reversed(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()
    return opened


def states(line: Line) -> list[str]:
    return [row["state"] for row in line.rows("select state from conversion")]


def sent(line: Line) -> dict:
    return next(call for call in line.world.meta.calls if call.path.endswith("/events")).json["data"][0]


def test_the_event_carries_the_click_the_value_and_the_time_of_payment(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person(first_name="Ana", last_name="Souza")
    answer = requests.get(
        f"{line.url}/go/{shop.slug}?fbclid=IwAR1&utm_source=ig",
        headers={"User-Agent": "Mozilla/5.0 phone"},
        cookies={"_fbp": "fb.1.1700000000000.123456789"},
        allow_redirects=False,
        timeout=5,
    )
    shop.visit(person, answer.headers["Location"].partition("?start=")[2])
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()

    event = sent(line)
    payment = shop.payments()[0]
    assert event["event_name"] == "Purchase"
    assert event["event_id"] == f"purchase.{payment['payment_id']}"
    assert event["event_time"] == int(payment["paid_at"].timestamp())
    assert event["custom_data"]["value"] == 49.9
    assert event["custom_data"]["currency"] == "BRL"
    assert event["user_data"]["fbp"] == "fb.1.1700000000000.123456789"
    assert event["user_data"]["fbc"].endswith(".IwAR1")
    assert event["user_data"]["client_user_agent"] == "Mozilla/5.0 phone"
    assert "Curso" not in str(event)


@pytest.mark.parametrize(
    "fault",
    [
        Status(500, {"error": {"code": 2, "message": "x"}}),
        Status(400, {"error": {"code": 613, "message": "slow down"}}),
        ResetBefore(),
        ResetAfter(),
    ],
)
def test_meta_down_delays_the_event_and_nothing_else(line: Line, fault: object) -> None:
    line.world.meta.fail("/events", how=fault)

    shop = sell(line)
    assert shop.payments()[0]["status"] == "paid"
    assert line.rows("select state from delivery") == [{"state": "delivered"}]
    assert states(line) == ["waiting"]
    line.pass_time(200)

    assert states(line) == ["delivered"]
    assert len(line.world.meta.deduplicated(shop.pixel_id)) == 1


def test_a_refused_token_rests_the_destination_and_its_events_wait(line: Line) -> None:
    shop = open_shop(line)
    line.world.meta.revoke(f"pixel-token-{shop.pixel_id}")
    shop.buy(line.world.telegram.person())
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()

    assert states(line) == ["paused"]
    assert line.rows("select 1 from destination where paused_note is not null")


def test_an_event_refused_for_good_becomes_a_dead_letter(line: Line) -> None:
    refusal = {"error": {"code": 100, "error_subcode": 2804016, "message": "no"}}
    line.world.meta.fail("/events", how=Status(400, refusal))

    sell(line)

    assert states(line) == ["dead"]


def test_an_event_too_old_for_the_destination_expires_without_a_call(line: Line) -> None:
    line.world.meta.fail("/events", how=Status(500, {}))
    sell(line)
    calls = len(line.world.meta.calls)

    line.change("update conversion set event_time = now() - interval '8 days'")
    line.pass_time(200)

    assert states(line) == ["expired"]
    assert len(line.world.meta.calls) == calls


def test_a_test_sale_goes_to_no_ad_platform(line: Line) -> None:
    shop = open_shop(line, gateways=(), test=True)
    payment = shop.buy(line.world.telegram.person())
    line.approve(payment)

    assert shop.payments()[0]["status"] == "paid"
    assert states(line) == ["skipped"]
    assert not line.world.meta.calls


def test_a_report_that_runs_twice_reports_once(line: Line) -> None:
    sell(line)

    line.change(
        "update procrastinate_jobs set status = 'todo' where task_name in ('report_purchase', 'send_conversion')"
    )
    line.work()

    assert list(line.world.meta.ledger().values()) == [1]


def test_a_new_token_in_the_shop_file_sends_what_waited(line: Line) -> None:
    shop = open_shop(line)
    line.world.meta.revoke(f"pixel-token-{shop.pixel_id}")
    shop.buy(line.world.telegram.person())
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()
    assert states(line) == ["paused"]

    line.world.meta.add_pixel(shop.pixel_id, "a-new-token")
    with line.app.app_context():
        email = line.rows("select email from seller")[0]["email"]
        apply(read(export(email).replace("kind: meta", "kind: meta, access_token: a-new-token").encode()))
        db.session.commit()
    line.work()

    assert states(line) == ["delivered"]


def test_a_destination_that_is_down_delays_no_other(line: Line) -> None:
    shop = open_shop(line)
    line.world.meta.add_pixel("4440001", "another-token")
    with line.seller(shop.seller_id):
        sealed = vault().seal("another-token", "destination.access_token", shop.seller_id)
        more = {"kind": "meta", "pixel_id": "4440001", "access_token_sealed": sealed}
        db.session.add(Destination(seller_id=shop.seller_id, name="outro", **more))
        db.session.commit()
    line.world.meta.fail(f"/{shop.pixel_id}/events", how=ResetBefore(), times=None)

    shop.buy(line.world.telegram.person())
    line.world.pushinpay.pay(next(iter(line.world.pushinpay.charges)))
    line.world.pushinpay.wait_delivered()
    line.work()

    assert sorted(states(line)) == ["delivered", "waiting"]
    assert len(line.world.meta.deduplicated("4440001")) == 1
