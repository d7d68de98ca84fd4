"""What is Woovi's own; the rest it inherits from test_gateways."""

from __future__ import annotations

import base64
import dataclasses
import json
from functools import cache

import pytest
import responses
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateways.base import Account, Authenticity, BadGatewayAnswer, ChargeState, GatewayRefused, Status
from gateways.woovi import gateway
from tests.gateway_contract import BASE_URL, Contract, notice

contract = Contract(gateway)
REFERENCE = contract.facts["reference"]
SIGNATURE_HEADER = "x-webhook-signature"
FOREIGN_KEY = "foreign"
OLD_KEY = "previous"


@pytest.fixture
def net():
    with responses.RequestsMock() as mock:
        yield mock


@cache
def key(name):
    return rsa.generate_private_key(
        public_exponent=65537, key_size=1024 if name == "woovi" else 2048
    )  # theirs has 1024


def pem(private):
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signed_account(**credentials):
    return Account(BASE_URL, {"app_id": "app", **credentials}, public_keys=(pem(key("previous")), pem(key("woovi"))))


def rotated_account():
    """Once the old key is no longer published."""
    return Account(BASE_URL, {"app_id": "app"}, public_keys=(pem(key("woovi")),))


def weaker(body):
    """The older proofs that Woovi still sends beside the real one."""
    signature = sign(body, hashed=SHA1)
    return [*signature.items(), ("x-openpix-signature", signature[SIGNATURE_HEADER])]


def sign(body, key="woovi", hashed=SHA256):
    signature = globals()["key"](key).sign(body, PKCS1v15(), hashed())
    return {SIGNATURE_HEADER: base64.b64encode(signature).decode()}


def asked(net):
    request = net.calls[-1].request
    return request.method, request.url.removeprefix(BASE_URL), json.loads(request.body) if request.body else None


def test_a_charge_is_asked_for_under_our_reference_and_at_most_once(net):
    net.post(f"{BASE_URL}/api/v1/charge", json=contract.load("create"))
    contract.create()
    method, path, body = asked(net)
    assert net.calls[0].request.headers["Authorization"] == contract.account.credentials["app_id"]
    assert (method, path) == ("POST", "/api/v1/charge?return_existing=true")
    assert body == {
        "correlationID": REFERENCE,
        "value": 4990,
        "type": "DYNAMIC",
        "comment": "Curso Completo",
        "expiresIn": 1800,
    }


def test_a_charge_lives_at_least_the_five_minutes_that_woovi_demands(net):
    net.post(f"{BASE_URL}/api/v1/charge", json=contract.load("create"))
    gateway.create_charge(contract.account, dataclasses.replace(contract.request, expires_in=60, description="x" * 500))
    body = asked(net)[2]
    assert body["expiresIn"] == 300
    assert body["comment"] == "x" * 140


@pytest.mark.parametrize(
    ("path", "value"), [("answer.id", "another"), ("answer.amount", 100), ("answer.amount", 499000)]
)
def test_an_old_charge_of_another_amount_or_reference_is_not_taken_for_ours(net, path, value):
    net.post(f"{BASE_URL}/api/v1/charge", json=contract.changed("create", path, value))
    with pytest.raises(BadGatewayAnswer):
        contract.create()


def test_the_code_is_found_beside_the_charge_too(net):
    answer = contract.load("create")
    del answer["charge"]["brCode"]
    net.post(f"{BASE_URL}/api/v1/charge", json=answer)
    assert contract.create().pix_code == answer["brCode"]


def test_a_charge_is_asked_after_by_our_reference(net):
    net.get(f"{BASE_URL}/api/v1/charge/a%2Fb", json={"error": "Charge not found"}, status=400)
    assert gateway.fetch_charge(contract.account, "anything", "a/b") is None


def test_a_refund_tried_twice_is_the_same_refund(net):
    net.post(f"{BASE_URL}/api/v1/charge/{REFERENCE}/refund", json={"refund": {"status": "IN_PROCESSING"}})
    for amount in (4990, 4990, 1000):
        gateway.refund(contract.account, "anything", REFERENCE, amount)
    first, again, part = (json.loads(call.request.body) for call in net.calls)
    assert first == again
    assert (first["value"], part["value"]) == (4990, 1000)
    assert first["correlationID"] != part["correlationID"]


def test_a_refused_refund_says_why(net):
    net.post(f"{BASE_URL}/api/v1/charge/{REFERENCE}/refund", json={"error": "saldo insuficiente"}, status=400)
    with pytest.raises(GatewayRefused, match="saldo insuficiente"):
        contract.refund()


def test_a_paid_notice_says_when_how_much_and_which_transfer():
    found = gateway.parse_notice(notice(contract.load("notice_paid")))
    assert found.reference == REFERENCE
    assert found.state == ChargeState(
        status=Status.PAID,
        provider_id=contract.facts["provider_id"],
        amount_cents=4990,
        paid_at=found.state.paid_at,
        end_to_end_id="E12345678202601151320a1b2c3d4e5f",
        raw_status="COMPLETED",
    )
    assert found.state.paid_at.isoformat() == "2026-01-15T13:20:07.891000+00:00"


def test_what_was_transferred_counts_before_what_was_asked():
    body = contract.load("notice_paid")
    body["pix"]["value"] = 1
    assert gateway.parse_notice(notice(body)).state.amount_cents == 1
    body["pix"]["value"] = None
    assert gateway.parse_notice(notice(body)).state.amount_cents == 4990


def test_a_notice_without_the_transfer_is_read_by_the_charge():
    body = contract.load("notice_paid")
    del body["pix"]
    assert gateway.parse_notice(notice(body)).state.amount_cents == 4990


@pytest.mark.parametrize(
    "event", ["OPENPIX:CHARGE_EXPIRED", "OPENPIX:CHARGE_CREATED", "OPENPIX:MOVEMENT_CONFIRMED", ""]
)
def test_an_event_that_contradicts_its_charge_says_nothing(event):
    found = gateway.parse_notice(notice({**contract.load("notice_paid"), "event": event}))
    assert found.state is None
    assert found.reference == REFERENCE


def test_the_test_environment_is_marked():
    body = contract.load("notice_paid")
    body["account"] = {"environment": "TESTING"}
    assert gateway.parse_notice(notice(body)).test


def test_the_call_made_at_registration_names_no_charge():
    found = gateway.parse_notice(notice(contract.load("notice_none_test_call")))
    assert (found.reference, found.provider_id, found.state) == (None, None, None)


@pytest.mark.parametrize("name", ["notice_dispute_opened", "notice_none_transaction", "notice_refunded"])
def test_what_names_no_charge_names_the_customers_transfer(name):
    found = gateway.parse_notice(notice(contract.load(name)))
    assert (found.reference, found.end_to_end_id) == (None, "E12345678202601151320a1b2c3d4e5f")


def test_the_id_of_a_return_is_not_taken_for_the_customers_transfer():
    assert gateway.parse_notice(notice(contract.load("notice_refunded_legacy"))).end_to_end_id is None


@pytest.mark.parametrize("change", [{"value": 1000}, {"partial": True}, {"partial": None}, {"value": None}])
def test_a_part_given_back_leaves_the_sale_standing(change):
    body = contract.load("notice_refunded")
    body["refundTransaction"] |= change
    assert gateway.parse_notice(notice(body)).state is None


def test_without_keys_a_notice_is_only_a_hint():
    body = notice(contract.load("notice_paid")).body
    assert gateway.verify(contract.account, notice(body, sign(body))) is Authenticity.UNSIGNED
    spoilt = Account(BASE_URL, {"app_id": "app"}, public_keys=("-----BEGIN NONSENSE-----",))
    assert gateway.verify(spoilt, notice(body, sign(body))) is Authenticity.UNSIGNED


def test_any_published_key_will_do():
    body = notice(contract.load("notice_paid")).body
    for name in ("woovi", "previous"):
        assert gateway.verify(signed_account(), notice(body, sign(body, key=name))) is Authenticity.SIGNED


def test_a_weaker_hash_or_the_old_header_is_a_forgery():
    body = notice(contract.load("notice_paid")).body
    old = {"x-openpix-signature": sign(body)[SIGNATURE_HEADER]}
    for headers in (sign(body, hashed=SHA1), old):
        assert gateway.verify(signed_account(), notice(body, headers)) is Authenticity.FORGED


@pytest.mark.parametrize("given", [None, "", "wrong", "é", "canary-authorizatio"])
def test_woovis_signature_on_someone_elses_notice_is_a_forgery(given):
    body = notice(contract.load("notice_paid")).body
    headers = sign(body) | ({} if given is None else {"authorization": given})
    account = signed_account(webhook_token="canary-authorization")
    assert gateway.verify(account, notice(body, headers)) is Authenticity.FORGED


def test_our_own_authorization_alone_does_not_replace_the_signature():
    body = notice(contract.load("notice_paid")).body
    account = signed_account(webhook_token="canary-authorization")
    headers = {"authorization": "canary-authorization"}
    assert gateway.verify(account, notice(body, headers)) is Authenticity.FORGED
    assert gateway.verify(account, notice(body, headers | sign(body))) is Authenticity.SIGNED


def published(*keys):
    return {"public_keys": [{"key_identifier": "x", "is_current": True, "key": found} for found in keys]}


def test_all_published_keys_are_fetched_without_telling_who_asks(net):
    keys = (pem(key("woovi")), pem(key("previous")))
    net.get(f"{BASE_URL}/api/v1/webhook/public-keys", json=published(*keys, "nonsense", 17, None))
    assert tuple(found + "\n" for found in gateway.fetch_public_keys(contract.account)) == keys
    assert "Authorization" not in net.calls[0].request.headers


def test_keys_of_another_kind_are_not_keys(net):
    other = pem(ec.generate_private_key(ec.SECP256R1()))
    for answer in (published(other), published(), {"public_keys": "x"}, {}):
        net.get(f"{BASE_URL}/api/v1/webhook/public-keys", json=answer)
        with pytest.raises(BadGatewayAnswer):
            gateway.fetch_public_keys(contract.account)


def test_a_probe_makes_nothing(net):
    net.get(f"{BASE_URL}/api/v1/charge/no-such-charge", json={"error": "not found"}, status=400)
    gateway.probe(contract.account)
