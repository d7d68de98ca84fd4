"""What is AbacatePay's own; the rest it inherits from test_gateways."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import responses

from gateways.abacatepay import gateway
from gateways.base import (
    Account,
    Authenticity,
    BadGatewayAnswer,
    Dispute,
    DisputeState,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnreachable,
    Payer,
    Status,
)
from tests.gateway_contract import BASE_URL, DAY, Contract, notice

contract = Contract(gateway)
REFERENCE, ID = contract.facts["reference"], contract.facts["provider_id"]
CREATE, LIST = f"{BASE_URL}/transparents/create", f"{BASE_URL}/transparents/list"
REFUND = f"{BASE_URL}/transparents/refund"
SECRET = "canary-notices"  # a made-up one
WITH_SECRET = Account(BASE_URL, {"api_key": "x", "webhook_secret": SECRET})


@pytest.fixture
def net():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def asked(net, which=-1):
    return json.loads(net.calls[which].request.body)


def refusal(error):
    return {"data": None, "success": False, "error": error}


def test_a_charge_is_asked_for_in_cents_under_our_reference(net):
    net.post(CREATE, json=contract.load("create"))
    contract.create()
    body = asked(net)
    assert body["method"] == "PIX"
    assert body["data"] == {
        "amount": 4990,
        "description": "Curso Completo",
        "expiresIn": 1800,
        "externalId": REFERENCE,
        "metadata": {"reference": REFERENCE},
        "customer": {
            "name": "Compradora de Teste",
            "taxId": "52998224725",
            "email": "compradora@example.com",
            "cellphone": "+5511987654321",
        },
    }


@pytest.mark.parametrize("missing", ["name", "email", "phone", "document"])
def test_a_payer_known_in_part_is_not_told_at_all(net, missing):
    net.post(CREATE, json=contract.load("create"))
    payer = dataclasses.replace(contract.request.payer, **{missing: None})
    gateway.create_charge(contract.account, dataclasses.replace(contract.request, payer=payer))
    gateway.create_charge(contract.account, dataclasses.replace(contract.request, payer=Payer()))
    assert all("customer" not in asked(net, which)["data"] for which in (0, 1))


@pytest.mark.parametrize(
    ("error", "raised"),
    [("Saldo insuficiente", GatewayRefused), ("LOCK_NOT_ACQUIRED", GatewayUnreachable), (None, GatewayRefused)],
)
def test_an_error_inside_a_200_is_an_error(net, error, raised):
    net.post(CREATE, json=refusal(error))
    with pytest.raises(raised):
        contract.create()


def test_an_error_inside_a_200_tells_no_secret(net):
    key = contract.facts["credentials"]["api_key"]
    net.post(CREATE, json=refusal(f"chave {key} de fulana@example.com recusada"))
    with pytest.raises(GatewayRefused, match="recusada") as caught:
        contract.create()
    assert key not in str(caught.value)
    assert "fulana" not in str(caught.value)


@pytest.mark.parametrize("change", [{"metadata": {"reference": "another"}}, {"amount": 100}, {"amount": 49.9}])
def test_an_old_charge_of_another_sale_or_amount_is_not_taken_for_ours(net, change):
    answer = contract.load("create")
    answer["data"] |= change
    net.post(CREATE, json=answer)
    with pytest.raises(BadGatewayAnswer):
        contract.create()


def test_a_key_of_the_dev_mode_sells_nothing(net):
    answer = contract.load("create")
    answer["data"]["devMode"] = True
    net.post(CREATE, json=answer)
    with pytest.raises(GatewayMisconfigured, match="dev mode"):
        contract.create()


def test_a_charge_is_asked_after_where_its_amount_is_told(net):
    net.get(LIST, json=contract.load("charge_paid"))
    found = contract.fetch()
    assert (found.amount_cents, found.fee_cents, found.reference) == (4990, 80, REFERENCE)
    assert parse_qs(urlsplit(net.calls[0].request.url).query) == {"id": [ID]}


def test_a_filter_that_is_not_kept_gives_the_right_charge_all_the_same(net):
    body = contract.load("charge_paid")
    body["data"].insert(0, {**body["data"][0], "id": "pix_char_another", "status": "PENDING"})
    net.get(LIST, json=body)
    assert contract.fetch().status is Status.PAID


def test_an_empty_list_means_that_nobody_knows_it(net):
    net.get(LIST, json={"data": [], "success": True, "error": None})
    assert contract.fetch() is None


def test_a_refund_tried_twice_is_made_once(net):
    net.get(LIST, json=contract.load("charge_paid"))
    net.post(REFUND, json={"data": {"refundPublicId": "tran_1"}, "success": True, "error": None})
    contract.refund()
    assert asked(net) == {"id": ID}
    net.replace("POST", REFUND, json=refusal("Esta cobrança já foi reembolsada."), status=400)
    contract.refund()
    net.replace("GET", LIST, json=contract.load("charge_refunded"))
    contract.refund()
    assert [call.request.method for call in net.calls] == ["GET", "POST", "GET", "POST", "GET"]


@pytest.mark.parametrize("error", ["TRANSACTION_UNDER_DISPUTE", "INSUFFICIENT_FUNDS", "TRANSACTION_NOT_REFUNDABLE"])
@pytest.mark.parametrize("status", [200, 400])
def test_a_refused_refund_says_why(net, error, status):
    net.get(LIST, json=contract.load("charge_paid"))
    net.post(REFUND, json=refusal(error), status=status)
    with pytest.raises(GatewayRefused):
        contract.refund()


def test_a_part_can_not_be_given_back(net):
    net.get(LIST, json=contract.load("charge_paid"))
    with pytest.raises(GatewayRefused, match="whole charge"):
        gateway.refund(contract.account, ID, REFERENCE, 1000)


def test_a_long_list_comes_in_parts(net):
    body = contract.load("list")
    body["pagination"] = {"hasMore": True, "next": "c2", "before": None}
    net.get(LIST, json=body)
    assert gateway.list_charges(contract.account, DAY, DAY + timedelta(days=1)).next == "c2"
    net.replace("GET", LIST, json=contract.load("list"))
    assert gateway.list_charges(contract.account, DAY, DAY + timedelta(days=1), "c2").next == ""
    query = parse_qs(urlsplit(net.calls[-1].request.url).query)
    assert query == {"startDate": ["2026-11-19"], "endDate": ["2026-11-21"], "limit": ["100"], "after": ["c2"]}


def test_a_webhook_is_registered_once_with_a_secret(net):
    url = "https://shop.example.com/webhook/abacatepay/path-secret"
    net.get(f"{BASE_URL}/webhooks/list", json={"data": [{"endpoint": "https://other.example.com"}], "success": True})
    net.post(f"{BASE_URL}/webhooks/create", json={"data": {"id": "webh_1"}, "success": True, "error": None})
    gateway.register_webhook(WITH_SECRET, url)
    body = asked(net)
    assert (body["endpoint"], body["secret"]) == (url, SECRET)
    assert "transparent.completed" in body["events"]
    contract.register()
    assert asked(net)["secret"] not in ("", SECRET)
    net.replace("GET", f"{BASE_URL}/webhooks/list", json={"data": [{"endpoint": url}], "success": True})
    contract.register()
    assert net.calls[-1].request.method == "GET"


@pytest.mark.parametrize("query", [{}, {"webhookSecret": ""}, {"webhookSecret": "é"}, {"webhooksecret": SECRET}])
def test_without_the_right_secret_in_its_address_a_notice_is_a_forgery(query):
    body = contract.load("notice_paid")
    assert gateway.verify(WITH_SECRET, notice(body, {}, query)) is Authenticity.FORGED


def test_a_signature_by_a_key_that_everybody_knows_proves_nothing():
    body, headers = contract.load("notice_paid"), {"x-webhook-signature": "AAAA"}
    assert gateway.verify(WITH_SECRET, notice(body, headers, {})) is Authenticity.FORGED
    assert gateway.verify(WITH_SECRET, notice(body, headers, {"webhookSecret": SECRET})) is Authenticity.UNSIGNED
    assert gateway.verify(contract.account, notice(body, headers, {})) is Authenticity.UNSIGNED


def test_a_notice_is_matched_by_our_reference_and_not_by_the_payments_own_id():
    found = gateway.parse_notice(notice(contract.load("notice_paid")))
    assert (found.reference, found.provider_id) == (REFERENCE, None)
    flat = gateway.parse_notice(notice(contract.load("notice_paid_flat")))
    assert (flat.reference, flat.provider_id) == (REFERENCE, ID)


def test_what_was_paid_counts_before_what_was_asked():
    body = contract.load("notice_paid")
    body["data"]["transparent"]["paidAmount"] = 1
    assert gateway.parse_notice(notice(body)).state.amount_cents == 1


def test_the_event_counts_before_the_status():
    body = contract.load("notice_refunded")
    assert body["data"]["transparent"]["status"] == "PAID"
    assert gateway.parse_notice(notice(body)).state.status is Status.REFUNDED


@pytest.mark.parametrize("event", ["transparent.created", "payout.completed", "checkout.completed", "", None, 7])
def test_another_event_with_a_paid_charge_says_nothing(event):
    assert gateway.parse_notice(notice({**contract.load("notice_paid"), "event": event})).state is None


def test_a_claim_and_its_loss_are_one_dispute():
    opened, lost = (
        gateway.parse_notice(notice(contract.load(f"notice_dispute_{name}"))) for name in ("opened", "lost")
    )
    assert opened.dispute == Dispute("char_xyz789abc", DisputeState.OPENED, 4990, reason="requested_by_customer")
    assert (lost.dispute.id, lost.dispute.state) == ("char_xyz789abc", DisputeState.LOST)
    assert opened.reference == lost.reference == REFERENCE


def test_the_dev_mode_of_the_notice_counts_not_that_of_the_charge_in_it():
    body = contract.load("notice_paid")
    body["data"]["transparent"]["devMode"] = True
    assert not gateway.parse_notice(notice(body)).test
    assert gateway.parse_notice(notice({**body, "devMode": True})).test


def test_a_probe_makes_nothing(net):
    net.get(LIST, json={"data": [], "success": True, "error": None})
    gateway.probe(contract.account)
