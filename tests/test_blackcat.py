"""BlackCat's own ways: a table of companies with one API, two keys in HTTP Basic, ids that are numbers."""

from __future__ import annotations

import dataclasses
import json
from base64 import b64encode

import pytest
import responses

from gateways.base import Account, Authenticity, BadGatewayAnswer, GatewayMisconfigured, Status, UnreadableNotice
from gateways.blackcat import gateway
from tests.gateway_contract import BASE_URL, Contract, notice

contract = Contract(gateway)
ID = contract.facts["provider_id"]
KEYS = contract.facts["credentials"]
MADE = f"{BASE_URL}/transactions"


@pytest.fixture
def net():
    with responses.RequestsMock() as net:
        yield net


def basic(login):
    return "Basic " + b64encode(login.encode()).decode()


def test_what_is_sent_is_what_its_integrators_send(net):
    net.post(MADE, json=contract.load("create"))
    contract.create()
    request = net.calls[0].request
    assert request.headers["Authorization"] == basic(f"{KEYS['public_key']}:{KEYS['secret_key']}")
    item = {"title": "Curso Completo", "unitPrice": 4990, "quantity": 1, "tangible": False}
    assert json.loads(request.body) == {
        "amount": 4990,
        "currency": "BRL",
        "paymentMethod": "pix",
        "customer": {
            "name": "Compradora de Teste",
            "email": "compradora@example.com",
            "phone": "11987654321",
            "document": {"type": "cpf", "number": "52998224725"},
        },
        "items": [item | {"externalRef": contract.request.payment_id}],
        "postbackUrl": contract.request.notice_url,
    }


def test_a_company_is_charged_as_one(net):
    net.post(MADE, json=contract.load("create"))
    payer = dataclasses.replace(contract.request.payer, document="12ABC34501DE35")
    gateway.create_charge(contract.account, dataclasses.replace(contract.request, payer=payer))
    sent = json.loads(net.calls[0].request.body)["customer"]["document"]
    assert sent == {"type": "cnpj", "number": "12ABC34501DE35"}


@pytest.mark.parametrize(
    ("company", "url", "login"),
    [
        (None, "https://api.blackcatpagamentos.com/v1", "pk:sk"),
        ("", "https://api.blackcatpagamentos.com/v1", "pk:sk"),
        ("ghostspay", "https://api.ghostspaysv2.com/functions/v1", "sk:pk"),
        ("payevo", "https://apiv2.payevo.com.br/functions/v1", "sk:x"),
    ],
)
def test_each_company_is_asked_where_and_how_it_wants(net, company, url, login):
    more = {} if company is None else {"company": company}
    account = Account(gateway.api_url, {"public_key": "pk", "secret_key": "sk", **more})
    net.get(f"{url}/transactions/{ID}", json=contract.load("charge_paid"))
    assert gateway.fetch_charge(account, ID, "").status is Status.PAID
    assert net.calls[0].request.headers["Authorization"] == basic(login)


def test_the_operators_address_comes_before_any_companys(net):
    account = Account(BASE_URL, KEYS | {"company": "payevo"})
    net.get(f"{MADE}/{ID}", json=contract.load("charge_paid"))
    assert gateway.fetch_charge(account, ID, "").status is Status.PAID


@pytest.mark.parametrize("company", ["https://evil.example/v1", "evil.example", "BlackCat", "blackcat ", "babylon"])
def test_no_other_address_can_be_chosen(net, company):
    account = Account(gateway.api_url, KEYS | {"company": company})
    for ask in (gateway.probe, lambda account: gateway.create_charge(account, contract.request)):
        with pytest.raises(GatewayMisconfigured):
            ask(account)
    assert not net.calls


def test_an_id_is_the_same_as_a_number_and_as_a_text(net):
    net.get(f"{MADE}/{ID}", json={"data": contract.load("charge_paid") | {"id": ID}})
    assert contract.fetch().provider_id == ID


def test_a_charge_of_another_amount_is_not_shown(net):
    net.post(MADE, json=contract.load("create") | {"amount": 49})
    with pytest.raises(BadGatewayAnswer):
        contract.create()


def test_the_id_of_the_envelope_is_not_the_charges():
    found = gateway.parse_notice(notice(contract.load("notice_paid"), query={"t": "ours"}))
    assert (found.reference, found.provider_id, found.state.status) == ("ours", ID, Status.PAID)
    assert found.end_to_end_id == "E12345678202601151320a1b2c3d4e5f6"


def test_a_bare_transaction_as_a_notice_says_the_same():
    found = gateway.parse_notice(notice(contract.load("charge_paid")))
    assert (found.provider_id, found.state.status, found.state.amount_cents) == (ID, Status.PAID, 4990)


def test_a_notice_that_names_nothing_is_unreadable():
    with pytest.raises(UnreadableNotice):
        gateway.parse_notice(notice({"data": {"status": "paid", "amount": 4990}}))


def test_a_notice_is_never_more_than_a_hint():
    headers = {"authorization": basic(f"{KEYS['public_key']}:{KEYS['secret_key']}")}
    assert gateway.verify(contract.account, notice(b"{}", headers)) is Authenticity.UNSIGNED
    assert gateway.experimental
