"""What is Asaas's own; the rest it inherits from test_gateways."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import responses

from gateways.asaas import gateway
from gateways.base import (
    Account,
    Authenticity,
    BadGatewayAnswer,
    Dispute,
    DisputeState,
    GatewayRefused,
    GatewayTimeout,
    Payer,
    Status,
)
from tests.gateway_contract import BASE_URL, DAY, Contract, notice

contract = Contract(gateway)
REFERENCE, ID = contract.facts["reference"], contract.facts["provider_id"]
TOKEN = contract.facts["credentials"]["webhook_token"]
PAYMENTS, HOOKS = f"{BASE_URL}/payments", f"{BASE_URL}/webhooks"
HOOK = "https://shop.example.com/webhook/asaas/path-secret"


@pytest.fixture
def net():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def asked(net, which=-1):
    return json.loads(net.calls[which].request.body)


def answers(net, **changes):
    """To a customer, a charge and its code."""
    made = contract.load("create")
    net.post(f"{BASE_URL}/customers", json=made["customer"])
    net.post(PAYMENTS, json=made[""] | changes)
    net.get(f"{PAYMENTS}/{ID}/pixQrCode", json=made["qr"])


def test_a_charge_takes_a_customer_then_a_payment_then_its_code(net):
    answers(net)
    contract.create()
    assert [call.request.url.removeprefix(BASE_URL) for call in net.calls] == [
        "/customers",
        "/payments",
        f"/payments/{ID}/pixQrCode",
    ]
    customer, payment = asked(net, 0), asked(net, 1)
    assert customer == {
        "name": "Compradora de Teste",
        "cpfCnpj": "52998224725",
        "email": "compradora@example.com",
        "notificationDisabled": True,
    }
    assert (payment["customer"], payment["billingType"], payment["value"]) == ("cus_000005017596", "PIX", 49.9)
    assert payment["externalReference"] == REFERENCE
    assert net.calls[0].request.headers["access_token"] == contract.facts["credentials"]["api_key"]


def test_an_email_that_was_not_told_is_not_made_up(net):
    answers(net)
    payer = Payer(name="Compradora", document="52998224725")
    gateway.create_charge(contract.account, dataclasses.replace(contract.request, payer=payer))
    assert set(asked(net, 0)) == {"name", "cpfCnpj", "notificationDisabled"}


def test_it_is_due_on_the_day_in_brasilia_on_which_the_code_ends(net):
    answers(net)
    gateway.create_charge(contract.account, dataclasses.replace(contract.request, expires_in=3 * 86400))
    wanted = datetime.now(UTC) - timedelta(hours=3) + timedelta(days=3)
    assert asked(net, 1)["dueDate"] in {f"{wanted:%Y-%m-%d}", f"{wanted - timedelta(minutes=1):%Y-%m-%d}"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status": 400, "json": {"errors": [{"code": "x", "description": "sem chave Pix"}]}}, BadGatewayAnswer),
        ({"status": 401, "json": {}}, BadGatewayAnswer),
        ({"status": 404, "json": {}}, BadGatewayAnswer),
        ({"status": 503, "json": {}}, BadGatewayAnswer),
        ({"body": requests.ConnectTimeout()}, BadGatewayAnswer),
        ({"body": requests.ReadTimeout()}, GatewayTimeout),
        ({"json": {"payload": None}}, BadGatewayAnswer),
    ],
)
def test_whatever_happens_to_the_code_the_charge_exists(net, answer, error):
    answers(net)
    net.replace("GET", f"{PAYMENTS}/{ID}/pixQrCode", **answer)
    with pytest.raises(error):
        contract.create()


def test_its_errors_are_told_in_its_words(net):
    answers(net)
    body = {"errors": [{"code": "invalid_value", "description": "O valor mínimo é R$ 5,00."}]}
    net.replace("POST", PAYMENTS, json=body, status=400)
    with pytest.raises(GatewayRefused, match="valor mínimo"):
        contract.create()


@pytest.mark.parametrize("change", [{"externalReference": "another"}, {"value": 4990}, {"value": 0.499}, {"id": None}])
def test_another_charge_is_not_taken_for_ours(net, change):
    answers(net, **change)
    with pytest.raises(BadGatewayAnswer):
        contract.create()


def test_a_charge_whose_answer_never_came_is_found_by_our_reference(net):
    other = {**contract.load("charge_paid"), "externalReference": "another"}
    listed = [other, contract.load("charge_pending"), {**contract.load("charge_paid"), "id": "pay_2"}]
    net.get(PAYMENTS, json={"data": listed, "hasMore": False})
    found = gateway.fetch_charge(contract.account, "", REFERENCE)
    assert (found.status, found.provider_id) == (Status.PAID, "pay_2")


def test_what_it_keeps_and_what_went_back_is_read(net):
    net.get(f"{PAYMENTS}/{ID}", json=contract.load("charge_paid_refunded_in_part"))
    found = contract.fetch()
    assert (found.status, found.fee_cents, found.refunded_cents) == (Status.PAID, 99, 1000)


def test_a_refund_tried_twice_is_made_once(net):
    made = []
    net.add_callback("GET", f"{PAYMENTS}/{ID}/refunds", lambda _: (200, {}, json.dumps({"data": made})))
    net.post(f"{PAYMENTS}/{ID}/refund", json=contract.load("charge_refunded"))
    gateway.refund(contract.account, ID, REFERENCE, 1000)
    made.append({"status": "CANCELLED", "value": 10.0, "description": asked(net)["description"]})
    gateway.refund(contract.account, ID, REFERENCE, 1000)
    made.append({"status": "PENDING", "value": 10.0, "description": asked(net)["description"]})
    gateway.refund(contract.account, ID, REFERENCE, 1000)
    gateway.refund(contract.account, ID, REFERENCE, 2000)
    posts = [json.loads(call.request.body)["value"] for call in net.calls if call.request.method == "POST"]
    assert posts == [10.0, 10.0, 20.0]
    assert REFERENCE not in asked(net)["description"]


def test_a_charge_is_called_off_only_when_it_says_so(net):
    net.delete(f"{PAYMENTS}/{ID}", json={"deleted": True, "id": ID})
    contract.cancel()
    net.replace("DELETE", f"{PAYMENTS}/{ID}", json={"deleted": False, "id": ID})
    with pytest.raises(BadGatewayAnswer):
        contract.cancel()


def test_a_list_is_of_what_was_made_and_then_of_what_was_paid(net):
    net.get(PAYMENTS, json={**contract.load("list"), "hasMore": True})
    assert gateway.list_charges(contract.account, DAY, DAY).next == "dateCreated 2"
    net.replace("GET", PAYMENTS, json=contract.load("list"))
    assert gateway.list_charges(contract.account, DAY, DAY, "dateCreated 2").next == "paymentDate 0"
    assert gateway.list_charges(contract.account, DAY, DAY, "paymentDate 0").next == ""
    query = parse_qs(urlsplit(net.calls[-1].request.url).query)
    assert query["paymentDate[ge]"] == ["2026-11-19"]  # it is still that day in Brasília


def test_a_webhook_is_registered_once_with_its_token(net):
    net.get(HOOKS, json={"data": [{"id": "1", "url": "https://other.example.com", "enabled": True}]})
    net.post(HOOKS, json={"id": "2"})
    contract.register()
    body = asked(net)
    assert (body["url"], body["authToken"], body["sendType"]) == (HOOK, TOKEN, "NON_SEQUENTIALLY")
    assert {"PAYMENT_RECEIVED", "PAYMENT_CHARGEBACK_REQUESTED", "BALANCE_VALUE_BLOCKED"} <= set(body["events"])
    net.replace("GET", HOOKS, json={"data": [{"id": "2", "url": HOOK, "enabled": True, "interrupted": False}]})
    contract.register()
    assert net.calls[-1].request.method == "GET"


def test_a_paused_webhook_is_set_going_again(net):
    net.get(HOOKS, json={"data": [{"id": "2", "url": HOOK, "enabled": True, "interrupted": True}]})
    net.put(f"{HOOKS}/2", json={"id": "2"})
    contract.register()
    assert asked(net)["interrupted"] is False


def test_a_token_that_it_would_refuse_is_not_sent(net):
    net.get(HOOKS, json={"data": []})
    net.post(HOOKS, json={"id": "2"})
    gateway.register_webhook(Account(BASE_URL, {"api_key": "x", "webhook_token": "short"}), HOOK)
    assert "authToken" not in asked(net)


@pytest.mark.parametrize("given", ["", "é", TOKEN[:-1], TOKEN + "x"])
def test_a_wrong_token_is_a_forgery(given):
    found = gateway.verify(contract.account, notice({}, {"asaas-access-token": given}))
    assert found is Authenticity.FORGED


def test_a_right_token_proves_little():
    assert gateway.verify(contract.account, notice({}, {"asaas-access-token": TOKEN})) is Authenticity.UNSIGNED
    assert gateway.verify(Account(BASE_URL, {"api_key": "x"}), notice({})) is Authenticity.UNSIGNED


@pytest.mark.parametrize("event", ["PAYMENT_OVERDUE", "PAYMENT_REFUNDED", "PAYMENT_CREATED", "PAYMENT_UPDATED", ""])
def test_an_event_that_contradicts_its_payment_says_nothing(event):
    found = gateway.parse_notice(notice({**contract.load("notice_paid"), "event": event}))
    assert (found.state, found.reference) == (None, REFERENCE)


def test_a_transfer_out_is_about_no_sale():
    found = gateway.parse_notice(notice(contract.load("notice_none_transfer")))
    assert (found.provider_id, found.reference, found.state) == (None, None, None)


def test_a_chargeback_is_a_claim_of_its_own():
    found = gateway.parse_notice(notice(contract.load("notice_dispute_opened")))
    assert found.dispute == Dispute("cbk_000001", DisputeState.OPENED, 4990, reason="FRAUD")
    assert found.provider_id == ID


def test_a_pix_dispute_blocks_an_amount_and_names_no_sale():
    found = gateway.parse_notice(notice(contract.load("notice_dispute_opened_unlinked_block")))
    assert (found.dispute.id, found.dispute.amount_cents) == ("evt_6561b631fa5580caadd00bbe3b858607&9193", 4990)
    assert (found.provider_id, found.reference) == (None, None)


def test_a_probe_makes_nothing(net):
    net.get(PAYMENTS, json={"data": [], "hasMore": False})
    gateway.probe(contract.account)
