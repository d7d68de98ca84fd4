"""What is PushinPay's own; the rest it inherits from test_gateways."""

from __future__ import annotations

import dataclasses
import json
from urllib.parse import urlencode

import pytest
import responses

from gateways.base import Account, Authenticity, GatewayMisconfigured, GatewayRefused, Status, UnreadableNotice
from gateways.pushinpay import gateway
from tests.gateway_contract import BASE_URL, Contract, notice

contract = Contract(gateway)
ID = contract.facts["provider_id"]
TOKEN = contract.facts["credentials"]["webhook_token"]


@pytest.fixture
def net():
    with responses.RequestsMock() as mock:
        yield mock


def test_a_charge_is_asked_for_in_cents_with_its_own_notice_address(net):
    net.post(f"{BASE_URL}/pix/cashIn", json=contract.load("create"))
    contract.create()
    request = net.calls[0].request
    assert request.headers["Authorization"] == f"Bearer {contract.account.credentials['token']}"
    assert request.headers["Accept"] == "application/json"
    assert json.loads(request.body) == {"value": 4990, "webhook_url": contract.request.notice_url, "split_rules": []}


def test_less_than_fifty_cents_is_refused_before_asking():
    with pytest.raises(GatewayRefused, match="50 cents"):
        gateway.create_charge(contract.account, dataclasses.replace(contract.request, amount_cents=49))


def test_ids_are_kept_in_lower_case(net):
    net.post(f"{BASE_URL}/pix/cashIn", json={**contract.load("create"), "id": ID.upper()})
    assert contract.create().provider_id == ID


def test_its_refusal_is_passed_on_in_its_words(net):
    said = {"message": "O campo value deve ser no mínimo 50.", "errors": {"value": ["O campo value …"]}}
    net.post(f"{BASE_URL}/pix/cashIn", json=said, status=422)
    with pytest.raises(GatewayRefused, match="answered 422: O campo value"):
        contract.create()


def test_a_charge_is_asked_after_by_its_id(net):
    net.get(f"{BASE_URL}/transactions/{ID}", json=contract.load("charge_paid"))
    assert contract.fetch().status is Status.PAID


def test_a_refund_gives_back_the_whole_charge(net):
    net.get(f"{BASE_URL}/transactions/{ID}", json=contract.load("charge_paid"))
    net.post(f"{BASE_URL}/transactions/{ID}/refund", body=b"")
    contract.refund()
    assert net.calls[-1].request.body == b"{}"


def test_a_part_of_a_charge_is_not_given_back_as_the_whole(net):
    net.get(f"{BASE_URL}/transactions/{ID}", json=contract.load("charge_paid"))
    with pytest.raises(GatewayRefused):
        gateway.refund(contract.account, ID, "any", 1000)


def test_a_probe_makes_nothing(net):
    net.get(f"{BASE_URL}/transactions/00000000-0000-0000-0000-000000000000", json=[], status=404)
    gateway.probe(contract.account)
    net.get(f"{BASE_URL}/transactions/00000000-0000-0000-0000-000000000000", json={}, status=401)
    with pytest.raises(GatewayMisconfigured):
        gateway.probe(contract.account)


@pytest.mark.parametrize("name", contract.names("notice"))
def test_a_form_says_the_same_as_json(name):
    body = contract.load(name)
    form = urlencode({key: value for key, value in body.items() if value is not None}).encode()
    query = {"t": "our-reference"}
    as_form = gateway.parse_notice(notice(form, {"content-type": "application/x-www-form-urlencoded"}, query))
    assert as_form == gateway.parse_notice(notice(body, {"content-type": "application/json"}, query))
    assert (as_form.reference, as_form.provider_id) == ("our-reference", ID)


@pytest.mark.parametrize(
    "form",
    [b"id=1&id=2", b"id=%ff", b"status=paid", b"id=", b"id=a%00b", b"id=..%2F..", b"paid", b"&".join([b"a=1"] * 200)],
)
def test_a_form_that_plays_tricks_is_unreadable(form):
    with pytest.raises(UnreadableNotice):
        gateway.parse_notice(notice(form))


@pytest.mark.parametrize("given", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é", "\x00"])
def test_a_header_that_is_missing_or_wrong_is_a_forgery(given):
    headers = {} if given is None else {"x-pushinpay-token": given}
    assert gateway.verify(contract.account, notice(b"{}", headers)) is Authenticity.FORGED


def test_the_right_header_is_still_no_signature():
    assert gateway.verify(contract.account, notice(b"{}", {"x-pushinpay-token": TOKEN})) is Authenticity.UNSIGNED


@pytest.mark.parametrize("credentials", [{"token": "t"}, {"token": "t", "webhook_token": ""}])
def test_without_a_configured_header_nothing_can_be_forged(credentials):
    account = Account(BASE_URL, credentials)
    assert gateway.verify(account, notice(b"{}", {"x-pushinpay-token": "anything"})) is Authenticity.UNSIGNED


def test_buyers_are_told_what_its_terms_demand():
    assert "exclusivamente como processadora de pagamentos" in gateway.buyer_notice
