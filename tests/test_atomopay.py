"""Átomo Pay's own ways: the token in the address, an offer for each price, answers with and without an envelope."""

from __future__ import annotations

import dataclasses
import json
import logging
import traceback

import pytest
import requests
import responses

from gateways.atomopay import gateway
from gateways.base import (
    Authenticity,
    BadGatewayAnswer,
    GatewayError,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnreachable,
    Status,
    UnreadableNotice,
)
from tests.gateway_contract import BASE_URL, Contract, notice

contract = Contract(gateway)
ID = contract.facts["provider_id"]
TOKEN = contract.facts["credentials"]["api_token"]
PRODUCT, MADE = f"{BASE_URL}/products/canaryproduct", f"{BASE_URL}/transactions"
OFFERS = contract.facts["parts"]["GET /products/"]


@pytest.fixture
def net():
    with responses.RequestsMock() as net:
        yield net


def test_what_is_sent_is_what_its_integrators_send(net):
    net.get(PRODUCT, json=OFFERS)
    net.post(MADE, json=contract.load("create"), status=201)
    contract.create()
    item = {
        "product_hash": "canaryproduct",
        "offer_hash": "oferta2",
        "title": "Curso Completo",
        "price": 4990,
        "quantity": 1,
        "operation_type": 1,
        "tangible": False,
    }
    assert json.loads(net.calls[1].request.body) == {
        "amount": 4990,
        "offer_hash": "oferta2",
        "payment_method": "pix",
        "customer": {
            "name": "Compradora de Teste",
            "email": "compradora@example.com",
            "phone_number": "11987654321",
            "document": "52998224725",
        },
        "cart": [item],
        "installments": 1,
        "postback_url": contract.request.notice_url,
        "transaction_origin": "api",
    }


@pytest.mark.parametrize("offers", [[], None, [{"hash": "o", "price": 4991}], [{"hash": "o", "price": "4990"}], ["o"]])
def test_where_no_offer_has_the_price_one_is_made(net, offers):
    net.get(PRODUCT, json={"data": {"hash": "canaryproduct", "offers": offers}})
    net.post(f"{PRODUCT}/offers", json={"data": {"hash": "nova", "price": 4990}}, status=201)
    net.post(MADE, json=contract.load("create"), status=201)
    contract.create()
    assert json.loads(net.calls[1].request.body) == {"title": "Curso Completo", "price": 4990}
    assert json.loads(net.calls[2].request.body)["offer_hash"] == "nova"


@pytest.mark.parametrize(
    "answer", [{"status": 500}, {"body": requests.ReadTimeout()}, {"json": {}}, {"body": b"<html>"}]
)
def test_what_fails_before_the_charge_made_none(net, answer):
    net.get(PRODUCT, json={"offers": []})
    net.post(f"{PRODUCT}/offers", **answer)
    with pytest.raises(GatewayUnreachable):
        contract.create()


def test_an_unknown_product_is_the_sellers_to_mend(net):
    net.get(PRODUCT, json={}, status=404)
    with pytest.raises(GatewayMisconfigured):
        contract.create()


def test_an_offer_that_is_refused_is_a_refusal(net):
    net.get(PRODUCT, json={"offers": []})
    net.post(f"{PRODUCT}/offers", json={"message": "não"}, status=422)
    with pytest.raises(GatewayRefused):
        contract.create()


@pytest.mark.parametrize(
    "failure",
    [
        {"body": requests.ConnectTimeout(f"{MADE}?api_token={TOKEN}")},
        {"body": requests.ReadTimeout(f"{MADE}?api_token={TOKEN}")},
        {"body": requests.ConnectionError(f"{MADE}?api_token={TOKEN}")},
        {"json": {"message": f"GET {MADE}?api_token={TOKEN}"}, "status": 422},
        {"status": 302, "headers": {"Location": f"{MADE}?api_token={TOKEN}"}},
        {"body": b"<html>"},
    ],
)
def test_the_token_is_in_the_address_and_in_nothing_that_is_told(net, caplog, failure):
    caplog.set_level(logging.DEBUG)
    net.get(PRODUCT, json=OFFERS)
    net.post(MADE, **failure)
    with pytest.raises(GatewayError) as caught:
        contract.create()
    assert f"api_token={TOKEN}" in net.calls[1].request.url
    assert TOKEN not in "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: {"success": True, "data": one}])
def test_a_charge_with_and_without_an_envelope_is_the_same(net, wrap):
    net.get(PRODUCT, json=OFFERS)
    net.post(MADE, json=wrap(contract.load("create")), status=201)
    net.get(f"{MADE}/{ID}", json=wrap(contract.load("charge_paid")))
    assert contract.create().provider_id == ID
    assert contract.fetch().status is Status.PAID


def test_a_code_under_its_other_name_is_read(net):
    answer = contract.load("create")
    answer["pix_code"] = answer.pop("pix")["pix_qr_code"]
    net.get(PRODUCT, json=OFFERS)
    net.post(MADE, json=answer, status=201)
    assert contract.create().pix_code == answer["pix_code"]


def test_a_refusal_inside_a_2xx_is_a_refusal(net):
    net.get(PRODUCT, json=OFFERS)
    net.post(MADE, json={"success": False, "message": "recusado"})
    with pytest.raises(GatewayRefused, match="recusado"):
        contract.create()


def test_a_refusal_that_names_a_charge_leaves_open_whether_there_is_one(net):
    net.get(PRODUCT, json=OFFERS)
    net.post(MADE, json={"success": False, "hash": ID})
    with pytest.raises(BadGatewayAnswer):
        contract.create()


def test_a_charge_of_another_amount_is_not_shown(net):
    net.get(PRODUCT, json=OFFERS)
    net.post(MADE, json=contract.load("create") | {"amount": 49})
    with pytest.raises(BadGatewayAnswer):
        contract.create()


def test_words_that_contradict_each_other_say_nothing():
    found = gateway.parse_notice(notice(contract.load("notice_paid") | {"payment_status": "refused"}))
    assert found.state.status is Status.PENDING


def test_ids_that_contradict_each_other_are_none():
    found = gateway.parse_notice(notice(contract.load("notice_paid") | {"hash": "another"}, query={"t": "ours"}))
    assert (found.reference, found.provider_id) == ("ours", None)


def test_the_whole_transaction_as_a_notice_says_the_same():
    found = gateway.parse_notice(notice(contract.load("charge_paid")))
    assert (found.provider_id, found.state.status, found.state.amount_cents) == (ID, Status.PAID, 4990)


def test_a_notice_that_names_nothing_is_unreadable():
    with pytest.raises(UnreadableNotice):
        gateway.parse_notice(notice({"status": "paid", "amount": 4990}))


def test_a_notice_is_never_more_than_a_hint():
    assert gateway.verify(contract.account, notice(b"{}", query={"api_token": TOKEN})) is Authenticity.UNSIGNED
    assert gateway.experimental


def test_a_buyer_who_told_no_document_is_charged_without_one(net):
    payer = dataclasses.replace(contract.request.payer, document=None)
    net.get(PRODUCT, json=OFFERS)
    net.post(MADE, json=contract.load("create"), status=201)
    gateway.create_charge(contract.account, dataclasses.replace(contract.request, payer=payer))
    assert "document" not in json.loads(net.calls[1].request.body)["customer"]
