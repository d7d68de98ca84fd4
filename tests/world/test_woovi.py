"""FakeWoovi: what it refuses, what it answers, and how its notices are signed."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.world.calls import Call
from tests.world.faults import Status
from tests.world.shop import Shop
from tests.world.woovi import COMPLETED, FakeWoovi
from tests.world.woovi_signature import legacy_signature


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as shop:
        yield shop


@pytest.fixture
def woovi(shop: Shop) -> Iterator[FakeWoovi]:
    with FakeWoovi() as woovi:
        woovi.add_account("app-id")
        woovi.set_webhook("app-id", shop.hook_url)
        yield woovi


def call(fake: FakeWoovi, method: str, path: str, *, app_id: str = "app-id", **more: Any) -> requests.Response:
    return requests.request(method, f"{fake.url}/api/v1{path}", headers={"Authorization": app_id}, timeout=5, **more)


def create(fake: FakeWoovi, reference: str = "ref-1", value: int = 4990, **more: Any) -> requests.Response:
    return call(fake, "POST", "/charge", json={"correlationID": reference, "value": value, **more})


def is_signed(fake: FakeWoovi, notice: Call) -> bool:
    keys = requests.get(f"{fake.url}/api/v1/webhook/public-keys", timeout=5).json()["public_keys"]
    return any(_verifies(key["key"], notice) for key in keys)


def _verifies(pem: str, notice: Call) -> bool:
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, rsa.RSAPublicKey)
    signature = b64decode(notice.headers["x-webhook-signature"])
    try:
        key.verify(signature, notice.body, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def test_a_charge_is_created_and_found_by_both_ids(woovi: FakeWoovi) -> None:
    made = create(woovi).json()

    charge = made["charge"]
    assert (made["correlationID"], charge["status"], charge["value"]) == ("ref-1", "ACTIVE", 4990)
    assert made["brCode"] == charge["brCode"] == charge["paymentMethods"]["pix"]["brCode"]
    for name in ("ref-1", charge["transactionID"]):
        assert call(woovi, "GET", f"/charge/{name}").json() == {"charge": charge}


@pytest.mark.parametrize("app_id", ["Bearer app-id", "other", ""])
def test_a_wrong_app_id_is_refused(woovi: FakeWoovi, app_id: str) -> None:
    answer = call(woovi, "GET", "/charge/x", app_id=app_id)

    assert (answer.status_code, answer.json()) == (401, {"data": None, "errors": [{"message": "appID inválido"}]})


def test_return_existing_makes_creating_idempotent(woovi: FakeWoovi) -> None:
    made = create(woovi).json()

    again = create(woovi)
    assert again.status_code == 400
    assert "error" in again.json()
    path, body = "/charge?return_existing=true", {"correlationID": "ref-1", "value": 4990}
    assert call(woovi, "POST", path, json=body).json() == made
    assert len(woovi.charges) == 1


def test_two_accounts_may_use_the_same_correlation_id(woovi: FakeWoovi) -> None:
    woovi.add_account("other")
    assert create(woovi).ok

    body = {"correlationID": "ref-1", "value": 1}
    assert call(woovi, "POST", "/charge", app_id="other", json=body).ok
    assert len(woovi.charges) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"value": 1},
        {"correlationID": "a"},
        {"correlationID": "a", "value": 0},
        {"correlationID": "a", "value": "10"},
        {"correlationID": "a", "value": 10, "expiresIn": 299},
        {"correlationID": "a", "value": 10, "customer": {"name": "Ana"}},
        {"correlationID": "a", "value": 10, "type": "STATIC"},
    ],
)
def test_a_faulty_charge_is_refused(woovi: FakeWoovi, body: dict[str, Any]) -> None:
    answer = call(woovi, "POST", "/charge", json=body)

    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)


def test_a_foreign_charge_is_not_found(woovi: FakeWoovi) -> None:
    woovi.add_account("other")
    create(woovi)

    assert call(woovi, "GET", "/charge/ref-1", app_id="other").status_code == 400


def test_a_payment_is_told_to_the_accounts_webhook_and_signed(woovi: FakeWoovi, shop: Shop) -> None:
    create(woovi)

    assert woovi.wait_delivered(woovi.pay("ref-1")) == [[200]]
    [notice] = shop.calls
    assert (notice.json["event"], notice.json["charge"]["correlationID"]) == (COMPLETED, "ref-1")
    assert notice.json["pix"]["endToEndId"] == woovi.charges["app-id", "ref-1"].end_to_end_id
    assert notice.json["account"] == {"environment": "PRODUCTION"}
    assert is_signed(woovi, notice)
    secret = woovi.webhooks[0].hmac_secret
    assert notice.headers["x-openpix-signature"] == legacy_signature(secret, notice.body)
    assert call(woovi, "GET", "/charge/ref-1").json()["charge"]["status"] == "COMPLETED"


def test_signatures_can_be_wrong_missing_or_only_the_old_one(woovi: FakeWoovi, shop: Shop) -> None:
    create(woovi)

    for signature in ("wrong", "missing", "legacy"):
        woovi.wait_delivered(woovi.send_notice("ref-1", signature=signature))
    wrong, missing, legacy = shop.calls
    assert not is_signed(woovi, wrong)
    assert not {"x-webhook-signature", "x-openpix-signature"} & set(missing.headers)
    assert "x-webhook-signature" not in legacy.headers
    assert "x-openpix-signature" in legacy.headers


def test_a_notice_of_the_old_key_verifies_until_it_is_forgotten(woovi: FakeWoovi, shop: Shop) -> None:
    create(woovi)
    woovi.wait_delivered(woovi.pay("ref-1"))
    [old] = shop.calls

    woovi.keys.rotate()
    assert is_signed(woovi, old)
    woovi.wait_delivered(woovi.send_notice("ref-1"))
    assert is_signed(woovi, shop.calls[-1])
    woovi.keys.forget_old()
    assert not is_signed(woovi, old)


def test_a_key_may_be_as_short_as_the_real_one() -> None:
    with FakeWoovi(key_size=1024) as woovi:
        answer = requests.get(f"{woovi.url}/api/v1/webhook/public-keys", timeout=5)

    [key] = answer.json()["public_keys"]
    assert key["is_current"] is True
    assert load_pem_public_key(key["key"].encode()).key_size == 1024
    assert answer.headers["cache-control"] == "public, max-age=3600"


def test_a_testing_account_says_so_and_events_may_have_the_other_prefix(woovi: FakeWoovi, shop: Shop) -> None:
    woovi.add_account("app-id", environment="TESTING")
    create(woovi)

    woovi.wait_delivered(woovi.pay("ref-1", prefix="woovi"))
    [body] = shop.bodies()
    assert (body["event"], body["account"]) == ("woovi:CHARGE_COMPLETED", {"environment": "TESTING"})


def test_notices_are_tried_eight_times(woovi: FakeWoovi, shop: Shop) -> None:
    woovi.retry_delay = 0.001
    shop.fail("/hook", how=Status(503), times=7)
    create(woovi)

    assert woovi.wait_delivered(woovi.pay("ref-1")) == [[503] * 7 + [200]]


def test_registering_a_webhook_brings_a_test_call_without_a_charge(woovi: FakeWoovi, shop: Shop) -> None:
    asked = {"webhook": {"name": "x", "event": COMPLETED, "url": shop.hook_url, "authorization": "mine"}}

    made = call(woovi, "POST", "/webhook", json=asked).json()["webhook"]
    woovi.wait_delivered()
    [test] = shop.calls
    assert sorted(test.json) == ["data_criacao", "event"]
    assert test.headers["authorization"] == "mine"
    assert made["id"] in [hook["id"] for hook in call(woovi, "GET", "/webhook").json()["webhooks"]]
    assert call(woovi, "DELETE", f"/webhook/{made['id']}").ok
    assert call(woovi, "POST", "/webhook", json={"webhook": {"url": shop.hook_url, "event": "X"}}).status_code == 400


def test_only_events_asked_for_are_sent(woovi: FakeWoovi, shop: Shop) -> None:
    woovi.set_webhook("app-id", shop.hook_url, events=("OPENPIX:CHARGE_CREATED", "OPENPIX:TRANSACTION_RECEIVED"))
    create(woovi)
    woovi.pay("ref-1")

    woovi.wait_delivered()
    assert sorted(body["event"] for body in shop.bodies()) == ["OPENPIX:CHARGE_CREATED", "OPENPIX:TRANSACTION_RECEIVED"]


def test_a_refund_is_idempotent_and_never_more_than_was_paid(woovi: FakeWoovi) -> None:
    create(woovi)
    assert call(woovi, "POST", "/charge/ref-1/refund", json={"correlationID": "r"}).status_code == 400
    woovi.pay("ref-1")

    first = call(woovi, "POST", "/charge/ref-1/refund", json={"correlationID": "r", "value": 1000}).json()
    assert (first["refund"]["status"], first["refund"]["value"]) == ("IN_PROCESSING", 1000)
    call(woovi, "POST", "/charge/ref-1/refund", json={"correlationID": "r", "value": 1000})
    assert woovi.charges["app-id", "ref-1"].refunded_cents == 1000
    too_much = {"correlationID": "r2", "value": 4000}
    assert call(woovi, "POST", "/charge/ref-1/refund", json=too_much).status_code == 400


def test_refunds_disputes_and_expiry_are_told(woovi: FakeWoovi, shop: Shop) -> None:
    events = ("PIX_TRANSACTION_REFUND_SENT_CONFIRMED", "OPENPIX:DISPUTE_CREATED", "OPENPIX:CHARGE_EXPIRED")
    woovi.set_webhook("app-id", shop.hook_url, events=events)
    create(woovi)
    create(woovi, "ref-2")
    woovi.pay("ref-1")
    call(woovi, "POST", "/charge/ref-1/refund", json={"correlationID": "r"})

    woovi.confirm_refund("ref-1")
    woovi.dispute("ref-1")
    woovi.expire("ref-2")
    woovi.wait_delivered()
    assert sorted(body["event"] for body in shop.bodies()) == sorted(events)
    assert call(woovi, "GET", "/charge/ref-2").json()["charge"]["status"] == "EXPIRED"


def test_a_paid_charge_can_not_be_deleted(woovi: FakeWoovi) -> None:
    create(woovi)
    create(woovi, "ref-2")
    woovi.pay("ref-1")

    assert call(woovi, "DELETE", "/charge/ref-1").status_code == 400
    assert call(woovi, "DELETE", "/charge/ref-2").ok
