"""Paradise's own ways: errors inside a 200, ids of two types, a list by reference, whole refunds only."""

from __future__ import annotations

import dataclasses
import json

import pytest
import responses
from responses.matchers import query_param_matcher

from gateways.base import Authenticity, BadGatewayAnswer, GatewayRefused, Status, UnreadableNotice
from gateways.paradise import gateway
from tests.gateway_contract import BASE_URL, Contract, notice

contract = Contract(gateway)
ID, REFERENCE = contract.facts["provider_id"], contract.facts["reference"]
CREATE, QUERY, REFUND = (f"{BASE_URL}/{name}.php" for name in ("transaction", "query", "refund"))


@pytest.fixture
def net():
    with responses.RequestsMock() as net:
        yield net


def test_what_is_sent_is_what_its_documentation_asks_for(net):
    net.post(CREATE, json=contract.load("create"))
    contract.create()
    request = net.calls[0].request
    assert request.headers["X-API-Key"] == contract.facts["credentials"]["api_key"]
    assert json.loads(request.body) == {
        "amount": 4990,
        "description": "Curso Completo",
        "reference": REFERENCE,
        "productHash": "prod_canaryproduct",
        "postback_url": contract.request.notice_url,
        "customer": {
            "name": "Compradora de Teste",
            "email": "compradora@example.com",
            "phone": "11987654321",
            "document": "52998224725",
        },
    }


def test_an_error_inside_a_200_is_a_refusal(net):
    net.post(CREATE, json={"status": "error", "message": "Produto não encontrado."})
    with pytest.raises(GatewayRefused, match="Produto não encontrado"):
        contract.create()


def test_what_an_error_inside_a_200_quotes_is_not_told(net):
    net.post(CREATE, json={"status": "error", "message": f"CPF 529.982.247-25 de {REFERENCE}"})
    with pytest.raises(GatewayRefused) as caught:
        contract.create()
    assert "529" not in str(caught.value)
    assert REFERENCE not in str(caught.value)


@pytest.mark.parametrize("word", ["error", "pending", None, True])
def test_an_error_beside_a_charge_leaves_open_whether_there_is_one(net, word):
    net.post(CREATE, json=contract.load("create") | {"status": word})
    with pytest.raises(BadGatewayAnswer):
        contract.create()


@pytest.mark.parametrize("change", [{"id": "another-reference"}, {"amount": 49}])
def test_another_charge_is_not_shown_to_the_buyer(net, change):
    net.post(CREATE, json=contract.load("create") | change)
    with pytest.raises(BadGatewayAnswer):
        contract.create()


def test_a_charge_without_an_id_is_found_by_our_reference(net):
    wanted = {"action": "list_transactions", "external_id": REFERENCE}
    net.get(QUERY, json=[contract.load("charge_paid")], match=[query_param_matcher(wanted)])
    state = gateway.fetch_charge(contract.account, "", REFERENCE)
    assert (state.status, state.provider_id, state.amount_cents) == (Status.PAID, ID, 4990)


def test_of_several_the_one_that_was_paid_counts(net):
    net.get(QUERY, json=[contract.load("charge_cancelled"), contract.load("charge_paid") | {"id": 470}])
    assert gateway.fetch_charge(contract.account, "", REFERENCE).provider_id == "470"


def test_a_reference_that_nobody_has_is_none(net):
    net.get(QUERY, json=[])
    assert gateway.fetch_charge(contract.account, "", REFERENCE) is None


def test_a_list_with_another_reference_is_not_believed(net):
    net.get(QUERY, json=[contract.load("charge_paid") | {"external_id": "another"}])
    with pytest.raises(BadGatewayAnswer):
        gateway.fetch_charge(contract.account, "", REFERENCE)


@pytest.mark.parametrize(
    "answer", [{"status": "error", "message": "x"}, {"external_id": "another"}, {"id": 470}, {"id": True}]
)
def test_an_answer_that_is_not_about_this_charge_is_not_believed(net, answer):
    net.get(QUERY, json=contract.load("charge_paid") | answer)
    with pytest.raises(BadGatewayAnswer):
        contract.fetch()


def test_a_refund_names_the_charge_by_a_number(net):
    net.get(QUERY, json=contract.load("charge_paid"))
    net.post(REFUND, json={"success": True, "message": "Reembolso processado com sucesso."})
    contract.refund()
    assert json.loads(net.calls[1].request.body) == {"transaction_id": 469}


def test_a_charge_that_went_back_is_not_given_back_again(net):
    net.get(QUERY, json=contract.load("charge_refunded"))
    contract.refund()


def test_a_part_of_a_charge_is_not_given_back_as_the_whole(net):
    net.get(QUERY, json=contract.load("charge_paid"))
    with pytest.raises(GatewayRefused):
        gateway.refund(contract.account, ID, REFERENCE, 1000)


@pytest.mark.parametrize(
    ("answer", "error"),
    [({"success": False, "message": "Não."}, GatewayRefused), ({"success": "true"}, BadGatewayAnswer)],
)
def test_a_refund_is_done_by_an_explicit_yes(net, answer, error):
    net.get(QUERY, json=contract.load("charge_paid"))
    net.post(REFUND, json=answer)
    with pytest.raises(error):
        contract.refund()


def test_ids_are_the_same_as_numbers_and_as_texts():
    body = contract.load("notice_paid")
    for provider_id in (469, "469"):
        assert gateway.parse_notice(notice(body | {"transaction_id": provider_id})).provider_id == ID


def test_a_notice_without_a_reference_has_that_of_its_address():
    body = contract.load("notice_paid")
    del body["external_id"]
    assert gateway.parse_notice(notice(body, query={"t": "from-the-address"})).reference == "from-the-address"


@pytest.mark.parametrize("change", [{"webhook_type": "test"}, {"payment_method": "credit_card"}])
def test_what_is_about_no_pix_says_nothing_of_a_sale(change):
    assert gateway.parse_notice(notice(contract.load("notice_paid") | change)).state is None


def test_a_notice_that_names_no_transaction_is_unreadable():
    with pytest.raises(UnreadableNotice):
        gateway.parse_notice(notice({"status": "approved", "amount": 4990}))


def test_an_amount_in_reais_is_not_taken_for_cents():
    assert gateway.parse_notice(notice(contract.load("notice_paid") | {"amount": 49.9})).state.amount_cents is None


def test_no_header_makes_a_notice_more_than_a_hint():
    headers = {"x-api-key": contract.facts["credentials"]["api_key"]}
    assert gateway.verify(contract.account, notice(b"{}", headers)) is Authenticity.UNSIGNED


def test_a_probe_asks_for_what_nobody_has(net):
    net.get(QUERY, json=[])
    gateway.probe(contract.account)
    assert "external_id=no-such-charge" in net.calls[0].request.url


def test_a_foreign_phone_keeps_its_country(net):
    net.post(CREATE, json=contract.load("create"))
    payer = dataclasses.replace(contract.request.payer, phone="+351912345678")
    gateway.create_charge(contract.account, dataclasses.replace(contract.request, payer=payer))
    assert json.loads(net.calls[0].request.body)["customer"]["phone"] == "351912345678"
