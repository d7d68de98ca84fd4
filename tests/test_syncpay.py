"""SyncPay's own ways: a token first, amounts in reais, two generations of notices, withdrawals at the same address."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

import pytest
import responses

from gateways.base import (
    Account,
    Authenticity,
    BadGatewayAnswer,
    Dispute,
    DisputeState,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnreachable,
    Status,
    UnreadableNotice,
)
from gateways.syncpay import gateway
from tests.gateway_contract import BASE_URL, Contract, notice

contract = Contract(gateway)
ID = contract.facts["provider_id"]
TOKEN = contract.facts["credentials"]["webhook_token"]
AUTH, CASH_IN, TRANSACTION = f"{BASE_URL}/auth-token", f"{BASE_URL}/cash-in", f"{BASE_URL}/transaction/{ID}"
GIVEN = contract.facts["parts"]["POST /auth-token"]


@pytest.fixture
def net():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as net:
        yield net


@pytest.fixture(autouse=True)
def nobody_known(monkeypatch):
    monkeypatch.setattr("gateways.syncpay._tokens._held", {})


def test_what_is_sent_is_what_its_integrators_send(net):
    net.post(AUTH, json=GIVEN)
    net.post(CASH_IN, json=contract.load("create"))
    contract.create()
    credentials = contract.facts["credentials"]
    assert json.loads(net.calls[0].request.body) == {
        "client_id": credentials["client_id"],
        "client_secret": credentials["client_secret"],
    }
    assert net.calls[1].request.headers["Authorization"] == f"Bearer {GIVEN['access_token']}"
    assert json.loads(net.calls[1].request.body) == {
        "amount": 49.9,
        "description": "Curso Completo",
        "webhook_url": contract.request.notice_url,
        "client": {
            "name": "Compradora de Teste",
            "cpf": "52998224725",
            "email": "compradora@example.com",
            "phone": "11987654321",
        },
    }


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_credentials_that_give_no_token_are_the_sellers_to_mend(net, status):
    net.post(AUTH, json={"message": "Credenciais inválidas."}, status=status)
    with pytest.raises(GatewayMisconfigured):
        contract.create()


@pytest.mark.parametrize("answer", [{"status": 500}, {"json": {}}, {"body": b"<html>"}, {"json": {"access_token": 1}}])
def test_without_a_token_no_charge_can_exist(net, answer):
    net.post(AUTH, **answer)
    with pytest.raises(GatewayUnreachable):
        contract.create()


def test_a_token_is_kept_and_replaced_when_it_is_not_taken(net):
    net.post(AUTH, json=GIVEN)
    net.get(TRANSACTION, json=contract.load("charge_pending"))
    net.get(TRANSACTION, json={}, status=401)
    net.get(TRANSACTION, json=contract.load("charge_paid"))
    assert [contract.fetch().status, contract.fetch().status] == [Status.PENDING, Status.PAID]
    assert [call.request.url for call in net.calls].count(AUTH) == 2


@pytest.mark.parametrize("ends", [None, "soon", 0, 30, -1])
def test_a_token_that_ends_soon_or_does_not_say_when_is_not_kept(net, ends):
    net.post(AUTH, json=GIVEN | {"expires_in": ends})
    net.get(TRANSACTION, json=contract.load("charge_pending"))
    contract.fetch()
    contract.fetch()
    assert [call.request.url for call in net.calls].count(AUTH) == 2


@pytest.mark.parametrize("change", [{"document": "11222333000181"}, {"phone": "+351912345678"}])
def test_who_it_can_not_charge_is_charged_elsewhere(net, change):
    payer = dataclasses.replace(contract.request.payer, **change)
    with pytest.raises(GatewayRefused):
        gateway.create_charge(contract.account, dataclasses.replace(contract.request, payer=payer))
    assert not net.calls


@pytest.mark.parametrize(("amount", "cents"), [(49.9, 4990), ("49.90", 4990), (4990, 499000), (49.905, None)])
def test_amounts_are_reais_as_numbers_and_as_texts(net, amount, cents):
    net.post(AUTH, json=GIVEN)
    answer = contract.load("charge_paid")
    answer["data"]["amount"] = amount
    net.get(TRANSACTION, json=answer)
    assert contract.fetch().amount_cents == cents


def test_an_answer_without_an_envelope_is_not_believed(net):
    net.post(AUTH, json=GIVEN)
    net.get(TRANSACTION, json=contract.load("charge_paid")["data"])
    with pytest.raises(BadGatewayAnswer):
        contract.fetch()


def test_both_generations_say_the_same():
    flat = gateway.parse_notice(notice(contract.load("notice_paid"), {"event": "cashin.updated"}, {"t": "ours"}))
    older = gateway.parse_notice(
        notice(contract.load("notice_paid_envelope"), {"event": "cashin.update"}, {"t": "ours"})
    )
    for found in (flat, older):
        assert (found.reference, found.provider_id) == ("ours", ID)
        assert (found.state.status, found.state.amount_cents) == (Status.PAID, 4990)
    assert older.end_to_end_id == "E12345678202601151320a1b2c3d4e5f6"


@pytest.mark.parametrize("event", ["cashout.update", "cashout.updated", "CASHOUT.CREATED", "infraction.opened", "x"])
@pytest.mark.parametrize("name", ["notice_paid", "notice_paid_envelope", "notice_dispute_opened"])
def test_what_is_about_no_charge_is_about_no_sale(event, name):
    found = gateway.parse_notice(notice(contract.load(name), {"event": event}, {"t": "ours"}))
    assert (found.state, found.dispute, found.provider_id, found.reference) == (None, None, None, None)


def test_a_withdrawal_under_the_header_of_a_charge_is_still_a_withdrawal():
    found = gateway.parse_notice(notice(contract.load("notice_none_withdrawal"), {"event": "cashin.updated"}))
    assert (found.state, found.provider_id) == (None, None)


def test_a_med_is_a_dispute_and_no_state():
    found = gateway.parse_notice(notice(contract.load("notice_dispute_opened"), {"event": "cashin.updated"}))
    at = datetime(2026, 1, 15, 13, 20, 48, tzinfo=UTC)
    assert found.dispute == Dispute(ID, DisputeState.OPENED, 4990, opened_at=at, reason="med")
    assert (found.state, found.provider_id) == (None, ID)


def test_a_notice_without_an_id_is_unreadable():
    with pytest.raises(UnreadableNotice):
        gateway.parse_notice(notice({"status": "completed", "amount": "49.90"}, {"event": "cashin.updated"}))


@pytest.mark.parametrize("given", [None, "", TOKEN, f"Bearer {TOKEN}x", f"bearer {TOKEN}", "Bearer é", "\x00"])
def test_a_token_that_is_missing_or_wrong_is_a_forgery(given):
    headers = {} if given is None else {"authorization": given}
    assert gateway.verify(contract.account, notice(b"{}", headers)) is Authenticity.FORGED


def test_the_right_token_is_still_no_signature():
    found = gateway.verify(contract.account, notice(b"{}", {"authorization": f"Bearer {TOKEN}"}))
    assert found is Authenticity.UNSIGNED


@pytest.mark.parametrize("more", [{}, {"webhook_token": ""}])
def test_without_a_configured_token_nothing_can_be_forged(more):
    account = Account(BASE_URL, {"client_id": "i", "client_secret": "s", **more})
    assert gateway.verify(account, notice(b"{}", {"authorization": "anything"})) is Authenticity.UNSIGNED
