"""FakePushinPay: what it refuses, what it answers, and how its notices come."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from tests.world.faults import ResetAfter, Status
from tests.world.pushinpay import FakePushinPay
from tests.world.shop import Shop


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as shop:
        yield shop


@pytest.fixture
def pushinpay() -> Iterator[FakePushinPay]:
    with FakePushinPay() as pushinpay:
        pushinpay.add_account("token")
        yield pushinpay


def call(fake: FakePushinPay, method: str, path: str, *, token: str = "token", **more: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"} | more.pop("headers", {})
    return requests.request(method, fake.url + path, headers=headers, timeout=5, **more)


def create(fake: FakePushinPay, value: Any = 4990, **fields: Any) -> dict[str, Any]:
    answer = call(fake, "POST", "/pix/cashIn", json={"value": value, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_charge_is_created_with_a_code_that_a_bank_takes(pushinpay: FakePushinPay) -> None:
    charge = create(pushinpay, 4990)

    code = charge["qr_code"]
    assert code.startswith("000201")
    assert code[-4:] == f"{binascii.crc_hqx(code[:-4].encode(), 0xFFFF):04X}"
    assert "540549.90" in code
    assert len(code) <= 256
    assert (charge["status"], charge["value"], charge["id"]) == ("created", 4990, charge["id"].lower())
    assert b64decode(charge["qr_code_base64"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_long_codes_pass_256_characters() -> None:
    with FakePushinPay(long_codes=True) as pushinpay:
        pushinpay.add_account("token")
        assert len(create(pushinpay)["qr_code"]) > 256


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "value"),
        ({"value": 49}, "value"),
        ({"value": "4990"}, "value"),
        ({"value": 49.9}, "value"),
        ({"value": True}, "value"),
        ({"value": 100, "webhook_url": "ftp://example.com"}, "webhook_url"),
        ({"value": 100, "webhook_url": "here"}, "webhook_url"),
        ({"value": 100, "split_rules": [{"value": 51, "account_id": "x"}]}, "split_rules"),
    ],
)
def test_a_faulty_charge_is_refused_by_field(pushinpay: FakePushinPay, body: dict[str, Any], field: str) -> None:
    answer = call(pushinpay, "POST", "/pix/cashIn", json=body)

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [field]
    assert answer.json()["message"] == answer.json()["errors"][field][0]
    assert not pushinpay.charges


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer other"}, 401),
        ({"Authorization": "token"}, 401),
        ({"Accept": "*/*"}, 406),
    ],
)
def test_wrong_headers_are_refused(pushinpay: FakePushinPay, headers: dict[str, str], status: int) -> None:
    assert call(pushinpay, "POST", "/pix/cashIn", json={"value": 100}, headers=headers).status_code == status


def test_asking_shows_the_id_in_upper_case_and_the_value_as_text(pushinpay: FakePushinPay) -> None:
    made = create(pushinpay)

    seen = call(pushinpay, "GET", f"/transactions/{made['id']}").json()
    assert (seen["id"], seen["value"], seen["status"]) == (made["id"].upper(), "4990", "created")
    assert call(pushinpay, "GET", f"/transactions/{seen['id']}").json() == seen


def test_an_unknown_or_foreign_transaction_is_an_empty_list(pushinpay: FakePushinPay) -> None:
    pushinpay.add_account("other")
    made = create(pushinpay)

    for answer in (
        call(pushinpay, "GET", "/transactions/none"),
        call(pushinpay, "GET", f"/transactions/{made['id']}", token="other"),
    ):
        assert (answer.status_code, answer.json()) == (404, [])


def test_a_payment_is_in_the_ledger_and_its_notice_at_the_charges_url(pushinpay: FakePushinPay, shop: Shop) -> None:
    made = create(pushinpay, webhook_url=f"{shop.hook_url}?t=x")

    notices = pushinpay.pay(made["id"])
    assert pushinpay.wait_delivered(notices) == [[200]]
    [call_] = shop.calls
    assert (call_.query, call_.json["status"], call_.json["id"]) == ({"t": "x"}, "paid", made["id"].upper())
    assert call_.json["end_to_end_id"].startswith("E")
    assert pushinpay.charges[made["id"]].paid_cents == 4990
    assert call(pushinpay, "GET", f"/transactions/{made['id']}").json()["status"] == "paid"


def test_a_charge_is_paid_once(pushinpay: FakePushinPay) -> None:
    made = create(pushinpay)
    pushinpay.pay(made["id"])

    with pytest.raises(AssertionError, match="paid before"):
        pushinpay.pay(made["id"])


def test_notices_are_tried_three_times(pushinpay: FakePushinPay, shop: Shop) -> None:
    shop.fail("/hook", how=Status(500), times=None)
    made = create(pushinpay, webhook_url=shop.hook_url)

    assert pushinpay.wait_delivered(pushinpay.pay(made["id"])) == [[500, 500, 500]]
    assert len(shop.calls) == 3


def test_notices_can_be_copied_held_and_turned_around(pushinpay: FakePushinPay, shop: Shop) -> None:
    first, second = (create(pushinpay, webhook_url=shop.hook_url)["id"] for _ in range(2))
    held = pushinpay.pay(first, notices=2, hold=True) + pushinpay.pay(second, hold=True)
    assert not shop.calls

    pushinpay.release(reversed(held))
    pushinpay.wait_delivered(held)
    assert [body["id"].lower() for body in shop.bodies()] == [second, first, first]


def test_a_notice_can_overtake_the_creations_answer(pushinpay: FakePushinPay, shop: Shop) -> None:
    pushinpay.pay_next()

    made = create(pushinpay, webhook_url=shop.hook_url)
    assert [body["id"].lower() for body in shop.bodies()] == [made["id"]]
    assert made["status"] == "created"


def test_a_notice_may_come_as_a_form_and_with_the_accounts_token(shop: Shop) -> None:
    with FakePushinPay() as pushinpay:
        pushinpay.add_account("token", notice_token="secret")
        made = create(pushinpay, webhook_url=shop.hook_url)
        pushinpay.wait_delivered(pushinpay.pay(made["id"], form=True))

    [call_] = shop.calls
    assert parse_qs(call_.body.decode())["status"] == ["paid"]
    assert call_.headers["x-pushinpay-token"] == "secret"


def test_a_notice_may_lie(pushinpay: FakePushinPay, shop: Shop) -> None:
    made = create(pushinpay, webhook_url=shop.hook_url)

    pushinpay.wait_delivered(pushinpay.send_notice(made["id"], status="paid", changes={"value": "1"}))
    pushinpay.wait_delivered(pushinpay.send_notice(made["id"], body=b"{", headers={"X-Other": "1"}))
    assert (shop.calls[0].json["status"], shop.calls[0].json["value"]) == ("paid", "1")
    assert (shop.calls[1].body, shop.calls[1].headers["x-other"]) == (b"{", "1")
    assert not pushinpay.charges[made["id"]].paid


def test_a_refund_needs_a_payment_and_happens_once(pushinpay: FakePushinPay) -> None:
    made = create(pushinpay)
    path = f"/transactions/{made['id']}/refund"
    assert call(pushinpay, "POST", path, json={}).status_code == 422

    pushinpay.pay(made["id"])
    assert call(pushinpay, "POST", path, json={}).ok
    assert pushinpay.charges[made["id"]].refunded_cents == 4990
    assert call(pushinpay, "POST", path, json={}).status_code == 422


def test_a_reset_after_creation_leaves_the_charge(pushinpay: FakePushinPay) -> None:
    pushinpay.fail("/pix/cashIn", how=ResetAfter())

    with pytest.raises(requests.ConnectionError):
        create(pushinpay)
    assert len(pushinpay.charges) == 1


def test_a_revoked_token_is_refused(pushinpay: FakePushinPay) -> None:
    pushinpay.revoke("token")

    answer = call(pushinpay, "POST", "/pix/cashIn", json={"value": 100})
    assert (answer.status_code, json.loads(answer.text)) == (401, {"message": "Unauthenticated."})


def test_expired_is_told(pushinpay: FakePushinPay, shop: Shop) -> None:
    made = create(pushinpay, webhook_url=shop.hook_url)

    pushinpay.wait_delivered(pushinpay.expire(made["id"]))
    assert [body["status"] for body in shop.bodies()] == ["expired"]
