"""Charging: the first gateway that will, within the customer's patience, and what a silent one leaves behind."""

from __future__ import annotations

import pytest

import gateways
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.world import Garbage, ResetAfter, ResetBefore, Status


def attempts(line: Line) -> list[str]:
    return [row["state"] for row in line.rows("select state from charge_attempt order by id")]


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        (Status(422, {"message": "conta sem limite"}), "refused"),
        (Status(401, {"message": "no"}), "refused"),
        (Status(503, {}), "unreachable"),
        (Status(500, {}), "unknown"),
        (ResetBefore(), "unknown"),
        (ResetAfter(), "unknown"),
        (Garbage(b"<html>"), "unknown"),
        (Garbage(b'{"id": "a", "qr_code": "not a code", "value": 4990}'), "unknown"),
    ],
    ids=["refused", "token", "down", "broken", "reset", "reset after", "html", "no BR Code"],
)
def test_the_next_gateway_takes_over(line: Line, fault: object, left: str) -> None:
    shop = open_shop(line, gateways=("pushinpay", "woovi"))
    line.world.pushinpay.fail("/pix/cashIn", how=fault)
    person = line.world.telegram.person()

    payment = shop.buy(person)

    assert attempts(line) == [left, "made"]
    assert payment["status"] == "pending"
    assert payment["gateway_id"] == shop.gateways["woovi"]
    assert person.last(shop.token).marked("code") == [payment["pix_code"]]


def test_a_gateway_that_is_down_is_told_to_the_customer_and_to_the_seller(line: Line) -> None:
    shop = open_shop(line)
    line.world.pushinpay.fail("/pix/cashIn", how=Status(503, {}))
    person = line.world.telegram.person()

    payment = shop.buy(person)

    assert payment["status"] == "failed"
    assert "Nada foi cobrado" in person.last(shop.token).text
    assert line.rows("select last_error from gateway where kind = 'pushinpay'")[0]["last_error"]


def test_a_customer_whose_charge_failed_may_try_again(line: Line) -> None:
    shop = open_shop(line)
    line.world.pushinpay.fail("/pix/cashIn", how=Status(503, {}))
    person = line.world.telegram.person()
    shop.buy(person)

    person.tap(shop.token, person.button(shop.token, "Tentar de novo"))
    line.work()
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()

    assert [p["status"] for p in shop.payments()] == ["failed", "pending"]


def test_a_charge_job_that_runs_twice_makes_one_charge(line: Line) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())

    line.change("update procrastinate_jobs set status = 'todo' where task_name = 'charge'")
    line.work()

    assert len(line.world.pushinpay.charges) == 1


def test_a_charge_whose_worker_died_is_made_by_the_next_one(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.visit(person)
    line.world.pushinpay.fail("/pix/cashIn", how=Status(500, {}, after=True))
    person.tap(shop.token, person.button(shop.token, "Curso Completo"))
    line.work()
    died = "update payment set status = 'new', claimed_at = now() - interval '1 minute'"
    line.change(died)
    line.change("update charge_attempt set state = 'sending'")

    line.change("update procrastinate_jobs set status = 'todo' where task_name = 'charge'")
    line.work()

    assert attempts(line) == ["unknown", "made"]
    assert shop.payments()[-1]["status"] == "pending"


def test_the_gateways_terms_are_shown_with_its_code(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()

    shop.buy(person)

    assert "PUSHIN PAY" in person.last(shop.token).text.upper().replace("PUSHINPAY", "PUSHIN PAY")


def test_an_open_charge_is_looked_at_when_no_notice_comes(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.buy(person)
    next(iter(line.world.pushinpay.charges.values())).pay()

    line.pass_time(121)

    assert shop.payments()[-1]["status"] == "paid"
    assert "Pagamento confirmado" in person.last(shop.token).text


def test_a_customer_who_says_they_paid_gets_the_gateways_answer(line: Line) -> None:
    shop = open_shop(line)
    person = line.world.telegram.person()
    shop.buy(person)

    person.tap(shop.token, person.button(shop.token, "Já paguei"))
    line.work()
    assert "ainda não confirmou" in person.last(shop.token).text
    person.tap(shop.token, person.button(shop.token, "Já paguei"))
    line.work()
    assert "Acabei de consultar" in person.last(shop.token).text
    next(iter(line.world.pushinpay.charges.values())).pay()
    line.change("update payment set asked_at = asked_at - interval '11 seconds'")
    person.tap(shop.token, person.button(shop.token, "Já paguei"))
    line.work()

    assert shop.payments()[-1]["status"] == "paid"
    assert len([m for m in person.received(shop.token) if "https://example.com/curso" in m.text]) == 1


def asks_two(line: Line) -> Shop:
    """A shop with an open sale whose look asks pushinpay, then woovi."""
    shop = open_shop(line, gateways=("pushinpay", "woovi"))
    line.world.pushinpay.fail("/pix/cashIn", how=Status(500, {}, after=True))
    shop.buy(line.world.telegram.person())
    line.change(
        "update charge_attempt set provider_id = :id where state = 'unknown'",
        id=next(iter(line.world.pushinpay.charges)),
    )
    return shop


def test_credentials_that_do_not_open_cost_a_look_that_account_only(line: Line) -> None:
    shop = asks_two(line)
    line.change("update gateway set credentials_sealed = 'nonsense' where kind = 'pushinpay'")

    line.pass_time(121)

    [error] = line.rows("select last_error from gateway where kind = 'pushinpay'")
    assert "do not open" in error["last_error"]
    next(iter(line.world.woovi.charges.values())).pay()
    line.pass_time(241)
    assert shop.payments()[-1]["status"] == "paid"
    assert not line.rows("select task_name from procrastinate_jobs where status = 'failed'")


def test_a_bug_in_one_providers_file_costs_a_look_that_account_only(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = asks_two(line)
    monkeypatch.setattr(type(gateways.get("pushinpay")), "fetch_charge", lambda *_: {}["no such key"])

    line.pass_time(121)
    next(iter(line.world.woovi.charges.values())).pay()
    line.pass_time(241)

    assert shop.payments()[-1]["status"] == "paid"
    assert not line.rows("select task_name from procrastinate_jobs where attempts > 1 or status = 'failed'")


def test_nobody_can_ask_about_somebody_elses_payment(line: Line) -> None:
    shop = open_shop(line)
    ana, eve = line.world.telegram.person(), line.world.telegram.person()
    payment = shop.buy(ana)
    shop.visit(eve)

    asked_before = len(line.world.pushinpay.calls)
    line.world.telegram.push(
        shop.token,
        {
            "callback_query": {
                "id": "1",
                "from": eve.user(),
                "chat_instance": "1",
                "data": f"paid:{payment['payment_id']}",
                "message": {"message_id": 1, "date": 0, "chat": {"id": eve.id, "type": "private"}},
            }
        },
    )
    line.work()

    assert len(line.world.pushinpay.calls) == asked_before


def test_an_unpaid_code_expires_with_its_time(line: Line) -> None:
    shop = open_shop(line)
    shop.buy(line.world.telegram.person())

    line.change("update payment set expires_at = now() - interval '1 second'")
    line.pass_time(1900)

    assert shop.payments()[-1]["status"] == "expired"


def test_weights_share_the_charges_of_one_priority(line: Line) -> None:
    shop = open_shop(line, gateways=("pushinpay", "woovi"))
    line.change("update gateway set priority = 1, weight = case kind when 'woovi' then 3 else 1 end where not own")

    for _ in range(4):
        shop.buy(line.world.telegram.person())

    assert (len(line.world.pushinpay.charges), len(line.world.woovi.charges)) == (1, 3)
