"""WiinPay's own ways: the key in the body, amounts in reais, answers that are a list, ids under several names."""

from __future__ import annotations

import json

import pytest
import responses

from gateways.base import Authenticity, BadGatewayAnswer, GatewayMisconfigured, GatewayRefused, Status, UnreadableNotice
from gateways.wiinpay import gateway
from tests.gateway_contract import BASE_URL, Contract, notice

contract = Contract(gateway)
ID, REFERENCE = contract.facts["provider_id"], contract.facts["reference"]
KEY = contract.facts["credentials"]["api_key"]
CREATE, QUERY = f"{BASE_URL}/payment/create", f"{BASE_URL}/payment/list/{ID}"


@pytest.fixture
def net():
    with responses.RequestsMock() as net:
        yield net


def test_what_is_sent_is_what_its_integrators_send(net):
    net.post(CREATE, json=contract.load("create"), status=201)
    contract.create()
    request = net.calls[0].request
    assert json.loads(request.body) == {
        "api_key": KEY,
        "value": 49.9,
        "name": "Compradora de Teste",
        "email": "compradora@example.com",
        "description": "Curso Completo",
        "webhook_url": contract.request.notice_url,
        "metadata": {"reference": REFERENCE},
    }
    assert KEY not in request.url
    assert "Authorization" not in request.headers


def test_a_charge_in_an_envelope_is_read(net):
    net.post(CREATE, json={"message": "ok", "data": contract.load("create")}, status=201)
    assert contract.create().provider_id == ID


def test_the_key_is_not_told_when_it_is_quoted(net):
    net.post(CREATE, json={"message": f"a chave {KEY} não serve"}, status=422)
    with pytest.raises(GatewayRefused) as caught:
        contract.create()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: [one], lambda one: {"data": one}])
def test_a_charge_alone_in_a_list_or_in_an_envelope_is_the_same(net, wrap):
    net.get(QUERY, json=wrap(contract.load("charge_paid")))
    state = contract.fetch()
    assert (state.status, state.provider_id, state.amount_cents) == (Status.PAID, ID, 4990)
    assert net.calls[0].request.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("many", [0, 2])
def test_a_list_that_is_not_of_this_charge_alone_is_not_believed(net, many):
    net.get(QUERY, json=[contract.load("charge_paid")] * many)
    with pytest.raises(BadGatewayAnswer):
        contract.fetch()


@pytest.mark.parametrize("name", ["id", "payment_id", "paymentId"])
def test_an_id_may_go_by_any_of_its_names(net, name):
    answer = {key: value for key, value in contract.load("charge_paid").items() if key != "paymentId"}
    net.get(QUERY, json=answer | {name: ID})
    assert contract.fetch().provider_id == ID


def test_names_of_an_id_that_disagree_are_not_believed(net):
    net.get(QUERY, json=contract.load("charge_paid") | {"id": "another"})
    with pytest.raises(BadGatewayAnswer):
        contract.fetch()


@pytest.mark.parametrize(("value", "cents"), [(49.9, 4990), ("49.90", 4990), (4990, 499000), (49.905, None)])
def test_values_are_reais_and_cents_are_not_guessed(net, value, cents):
    net.get(QUERY, json=contract.load("charge_paid") | {"value": value})
    assert contract.fetch().amount_cents == cents


def test_a_notice_tells_our_reference_and_in_an_envelope_the_same():
    body = contract.load("notice_paid")
    for told in (body, {"event": "payment", "data": body}):
        found = gateway.parse_notice(notice(told))
        assert (found.reference, found.provider_id, found.state.status) == (REFERENCE, ID, Status.PAID)


def test_a_notice_that_names_nothing_is_unreadable():
    with pytest.raises(UnreadableNotice):
        gateway.parse_notice(notice({"status": "paid", "value": 49.9}))


def test_a_notice_that_names_nothing_is_about_the_charge_of_its_address():
    found = gateway.parse_notice(notice({"status": "paid"}, query={"t": "ours"}))
    assert (found.reference, found.provider_id, found.state.amount_cents) == ("ours", None, None)


def test_a_notice_is_never_more_than_a_hint():
    headers = {"authorization": f"Bearer {KEY}"}
    assert gateway.verify(contract.account, notice(b"{}", headers)) is Authenticity.UNSIGNED
    assert gateway.experimental


def test_a_probe_asks_for_what_nobody_has(net):
    net.get(f"{BASE_URL}/payment/list/no-such-charge", json={"message": "?"}, status=404)
    gateway.probe(contract.account)
    net.get(f"{BASE_URL}/payment/list/no-such-charge", json={}, status=401)
    with pytest.raises(GatewayMisconfigured):
        gateway.probe(contract.account)
