"""What is Stripe's own; the rest it inherits from test_gateways."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import responses

from gateways.base import (
    Account,
    Authenticity,
    BadGatewayAnswer,
    DisputeState,
    GatewayMisconfigured,
    GatewayRefused,
    Payer,
    Status,
)
from gateways.stripe import gateway
from tests.gateway_contract import BASE_URL, DAY, Contract, notice
from tests.world.stripe import signature

contract = Contract(gateway)
REFERENCE, ID = contract.facts["reference"], contract.facts["provider_id"]
INTENTS, REFUNDS = f"{BASE_URL}/v1/payment_intents", f"{BASE_URL}/v1/refunds"
SIGNATURE_HEADER = "stripe-signature"
FOREIGN_KEY = "canary-foreign"
OLD_KEY = "canary-before"
KEY = contract.facts["credentials"]["webhook_signing_secret"]


@pytest.fixture
def net():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def signed_account():
    return Account(BASE_URL, contract.facts["credentials"])


def rotated_account():
    """The secret is the account's own, and has changed already."""
    return signed_account()


def sign(body, key=KEY, at=None):
    return {SIGNATURE_HEADER: signature(key, body, at)["Stripe-Signature"]}


def weaker(body):
    """The right sum under the name of a scheme that is only for tests."""
    return [(SIGNATURE_HEADER, sign(body)[SIGNATURE_HEADER].replace("v1=", "v0="))]


def asked(net, which=-1):
    return dict(parse_qsl(net.calls[which].request.body.decode()))


def test_a_charge_is_asked_for_as_a_form_at_most_once(net):
    net.post(INTENTS, json=contract.load("create"))
    contract.create()
    contract.create()
    keys = {call.request.headers["Idempotency-Key"] for call in net.calls}
    assert len(keys) == 1
    assert REFERENCE not in keys.pop()
    assert net.calls[0].request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert asked(net) == {
        "amount": "4990",
        "currency": "brl",
        "confirm": "true",
        "description": "Curso Completo",
        "metadata[reference]": REFERENCE,
        "payment_method_types[0]": "pix",
        "payment_method_data[type]": "pix",
        "payment_method_options[pix][expires_after_seconds]": "1800",
        "payment_method_data[billing_details][name]": "Compradora de Teste",
        "payment_method_data[billing_details][email]": "compradora@example.com",
        "payment_method_data[billing_details][tax_id]": "52998224725",
    }


@pytest.mark.parametrize(("seconds", "sent"), [(1, "60"), (3600, "3600"), (10**8, "1209600")])
def test_a_charge_lives_as_long_as_is_allowed_and_tells_nothing_of_who_told_nothing(net, seconds, sent):
    net.post(INTENTS, json=contract.load("create"))
    gateway.create_charge(contract.account, dataclasses.replace(contract.request, expires_in=seconds, payer=Payer()))
    assert asked(net)["payment_method_options[pix][expires_after_seconds]"] == sent
    assert not [name for name in asked(net) if "billing" in name]


@pytest.mark.parametrize("change", [{"metadata": {}}, {"amount": 49.9}, {"currency": "usd"}, {"next_action": None}])
def test_another_charge_is_not_taken_for_ours(net, change):
    net.post(INTENTS, json=contract.load("create") | change)
    with pytest.raises(BadGatewayAnswer):
        contract.create()


def test_a_key_of_the_test_mode_sells_nothing(net):
    net.post(INTENTS, json=contract.load("create") | {"livemode": False})
    with pytest.raises(GatewayMisconfigured, match="test mode"):
        contract.create()


def test_its_errors_are_told_in_its_words(net):
    error = {"error": {"type": "invalid_request_error", "message": "The payment method type pix is not activated"}}
    net.post(INTENTS, json=error, status=400)
    with pytest.raises(GatewayRefused, match="pix is not activated"):
        contract.create()


def test_a_charge_whose_answer_never_came_is_found_by_our_reference(net):
    other = contract.load("charge_paid") | {"metadata": {"reference": "another"}}
    found = [other, contract.load("charge_pending"), contract.load("charge_paid") | {"id": "pi_2"}]
    net.get(f"{INTENTS}/search", json={"data": found})
    state = gateway.fetch_charge(contract.account, "", REFERENCE)
    assert (state.status, state.provider_id) == (Status.PAID, "pi_2")


def test_anothers_reference_on_the_right_id_is_not_believed(net):
    net.get(f"{INTENTS}/{ID}", json=contract.load("charge_paid") | {"metadata": {"reference": "another"}})
    with pytest.raises(BadGatewayAnswer):
        contract.fetch()


def test_what_came_in_counts_before_what_was_asked(net):
    net.get(f"{INTENTS}/{ID}", json=contract.load("charge_paid_refunded_in_part") | {"amount_received": 1})
    found = contract.fetch()
    assert (found.amount_cents, found.refunded_cents) == (1, 1000)
    assert found.end_to_end_id == "E12345678202601151320a1b2c3d4e5f"


def test_a_refund_tried_twice_is_made_once_even_after_its_key_has_ended(net):
    made = []
    net.add_callback("GET", REFUNDS, lambda _: (200, {}, json.dumps({"data": made})))
    net.post(REFUNDS, json={"id": "re_1", "status": "pending"})
    gateway.refund(contract.account, ID, REFERENCE, 1000)
    first, key = asked(net), net.calls[-1].request.headers["Idempotency-Key"]
    assert (first["payment_intent"], first["amount"]) == (ID, "1000")
    made.append({"status": "failed", "metadata": {"refund": first["metadata[refund]"]}})
    gateway.refund(contract.account, ID, REFERENCE, 1000)
    assert net.calls[-1].request.headers["Idempotency-Key"] != key
    made.append({"status": "pending", "metadata": {"refund": first["metadata[refund]"]}})
    gateway.refund(contract.account, ID, REFERENCE, 1000)
    assert [call.request.method for call in net.calls] == ["GET", "POST", "GET", "POST", "GET"]


def test_a_refund_that_fails_inside_a_200_is_refused(net):
    net.get(REFUNDS, json={"data": []})
    net.post(REFUNDS, json={"id": "re_1", "status": "failed"})
    with pytest.raises(GatewayRefused):
        contract.refund()


def test_a_charge_is_called_off_only_when_it_says_so(net):
    net.post(f"{INTENTS}/{ID}/cancel", json=contract.load("charge_cancelled"))
    contract.cancel()
    net.replace("POST", f"{INTENTS}/{ID}/cancel", json=contract.load("charge_pending"))
    with pytest.raises(BadGatewayAnswer):
        contract.cancel()


def test_a_long_list_comes_in_parts(net):
    net.get(INTENTS, json=contract.load("list") | {"has_more": True})
    assert gateway.list_charges(contract.account, DAY, DAY + timedelta(days=1)).next == "pi_card"
    net.replace("GET", INTENTS, json=contract.load("list"))
    assert gateway.list_charges(contract.account, DAY, DAY + timedelta(days=1), "pi_card").next == ""
    query = parse_qs(urlsplit(net.calls[-1].request.url).query)
    assert query["starting_after"] == ["pi_card"]
    assert query["created[gte]"] == [str(int((DAY - timedelta(days=1)).timestamp()))]


@pytest.mark.parametrize("seconds", [-301, 301, -(10**9)])
def test_a_signature_of_another_time_is_a_forgery(seconds):
    body = notice(contract.load("notice_paid")).body
    near, far = int(time.time() + seconds * 0.9), int(time.time() + seconds)
    assert gateway.verify(signed_account(), notice(body, sign(body, at=far))) is Authenticity.FORGED
    if abs(seconds) < 1000:
        assert gateway.verify(signed_account(), notice(body, sign(body, at=near))) is Authenticity.SIGNED


def test_while_a_secret_is_changed_either_signature_will_do():
    body, at = notice(contract.load("notice_paid")).body, int(time.time())
    old, new = (sign(body, key=key, at=at)[SIGNATURE_HEADER].partition(",")[2] for key in (OLD_KEY, KEY))
    for header in (f"t={at},{old},{new}", f"t={at},{new},{old}", f"t={at},{new},v0={'0' * 64}"):
        assert gateway.verify(signed_account(), notice(body, {SIGNATURE_HEADER: header})) is Authenticity.SIGNED
    for header in (f"t={at},t={at},{new}", f"{new}", f"t={at},{old}", f"t={at},{new},"):
        assert gateway.verify(signed_account(), notice(body, {SIGNATURE_HEADER: header})) is Authenticity.FORGED


def test_without_a_secret_a_notice_is_a_hint():
    body = notice(contract.load("notice_paid")).body
    account = Account(BASE_URL, {"secret_key": "x"})
    assert gateway.verify(account, notice(body, sign(body))) is Authenticity.UNSIGNED


@pytest.mark.parametrize("event", ["payment_intent.canceled", "payment_intent.created", "charge.succeeded", ""])
def test_an_event_that_contradicts_its_charge_says_nothing(event):
    assert gateway.parse_notice(notice(contract.load("notice_paid") | {"type": event})).state is None


def test_a_part_given_back_leaves_the_sale_standing():
    found = gateway.parse_notice(notice(contract.load("notice_paid_refunded_in_part")))
    assert (found.state.status, found.state.refunded_cents, found.provider_id) == (Status.PAID, 1000, ID)


def test_the_test_mode_is_marked():
    assert gateway.parse_notice(notice(contract.load("notice_paid") | {"livemode": False})).test


def test_a_dispute_says_until_when_it_may_be_defended():
    found = gateway.parse_notice(notice(contract.load("notice_dispute_opened")))
    assert (found.provider_id, found.dispute.id, found.dispute.reason) == (ID, "du_1PabcDEF", "fraudulent")
    assert (found.dispute.state, found.dispute.amount_cents) == (DisputeState.OPENED, 4990)
    assert found.dispute.due_at == datetime.fromtimestamp(1770600000, UTC)


def test_a_probe_makes_nothing(net):
    net.get(INTENTS, json={"object": "list", "data": []})
    gateway.probe(contract.account)
