"""What is Mercado Pago's own; the rest it inherits from test_gateways."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import responses

from gateways.base import (
    Account,
    Authenticity,
    BadGatewayAnswer,
    Dispute,
    DisputeState,
    GatewayRefused,
    Payer,
    Status,
    UnreadableNotice,
)
from gateways.mercadopago import gateway
from tests.gateway_contract import BASE_URL, DAY, Contract, notice
from tests.world.mercadopago import signature

contract = Contract(gateway)
REFERENCE, ID = contract.facts["reference"], contract.facts["provider_id"]
SECRET = "canary-signing"  # a made-up one
SIGNED = Account(BASE_URL, {"access_token": "x", "webhook_signing_secret": SECRET})
PAYMENTS = f"{BASE_URL}/v1/payments"


@pytest.fixture
def net():
    with responses.RequestsMock() as mock:
        yield mock


def asked(net, which=-1):
    return json.loads(net.calls[which].request.body)


def made(net, **changes):
    net.post(PAYMENTS, json=contract.load("create"), status=201)
    gateway.create_charge(contract.account, dataclasses.replace(contract.request, **changes))
    return asked(net)


def test_a_charge_is_asked_for_in_reais_under_our_reference_and_at_most_once(net):
    body = made(net)
    made(net)
    keys = [call.request.headers["X-Idempotency-Key"] for call in net.calls]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 64
    assert REFERENCE not in keys[0]
    assert (body["transaction_amount"], body["payment_method_id"]) == (49.9, "pix")
    assert (body["external_reference"], body["description"]) == (REFERENCE, "Curso Completo")
    assert body["notification_url"] == f"{contract.request.notice_url}&source_news=webhooks"
    assert net.calls[0].request.headers["Authorization"].startswith("Bearer APP_USR-")


def test_only_what_the_payer_told_is_told_on(net):
    assert made(net, payer=Payer(email="compradora@example.com"))["payer"] == {"email": "compradora@example.com"}
    assert made(net)["payer"] == {
        "email": "compradora@example.com",
        "first_name": "Compradora",
        "last_name": "de Teste",
        "identification": {"type": "CPF", "number": "52998224725"},
    }
    company = made(net, payer=Payer(name="Loja", email="a@example.com", document="12ABC34501DE35"))["payer"]
    assert company["identification"] == {"type": "CNPJ", "number": "12ABC34501DE35"}
    assert "last_name" not in company


@pytest.mark.parametrize("seconds", [60, 1800, 7200])
def test_a_charge_lives_at_least_the_half_hour_that_is_demanded(net, seconds):
    ends = datetime.fromisoformat(made(net, expires_in=seconds)["date_of_expiration"])
    left = ends - datetime.now(UTC)
    assert left > timedelta(minutes=30)
    assert left > timedelta(seconds=seconds - 60)


def test_an_address_on_our_own_machine_is_not_told_to_the_real_one(net):
    here = "http://127.0.0.1:8000/webhook/mercadopago/s?t=x"
    assert "notification_url" not in made(net, notice_url=here)


def test_a_charge_refused_with_a_201_is_refused(net):
    net.post(PAYMENTS, json=contract.changed("create", "answer.status", "rejected"), status=201)
    with pytest.raises(GatewayRefused):
        contract.create()


@pytest.mark.parametrize(("field", "value"), [("external_reference", "another"), ("transaction_amount", 4990)])
def test_an_old_charge_of_another_amount_or_reference_is_not_taken_for_ours(net, field, value):
    net.post(PAYMENTS, json={**contract.load("create"), field: value}, status=201)
    with pytest.raises(BadGatewayAnswer):
        contract.create()


def test_a_sellers_account_without_a_pix_key_is_told_why(net):
    why = "Collector user without key enabled for QR render"
    net.post(PAYMENTS, json={"message": why, "error": "bad_request", "status": 400, "cause": []}, status=400)
    with pytest.raises(GatewayRefused, match="without key enabled"):
        contract.create()


def test_a_charge_whose_answer_never_came_is_found_by_our_reference(net):
    others = [{**contract.load("charge_paid"), "external_reference": "another"}, contract.load("charge_pending")]
    net.get(f"{PAYMENTS}/search", json={"results": [*others, contract.load("charge_paid")], "paging": {}})
    found = gateway.fetch_charge(contract.account, "", REFERENCE)
    assert (found.status, found.provider_id) == (Status.PAID, ID)
    assert parse_qs(urlsplit(net.calls[0].request.url).query)["external_reference"] == [REFERENCE]


def test_a_reference_that_nobody_knows_is_none(net):
    net.get(f"{PAYMENTS}/search", json={"results": [], "paging": {"total": 0}})
    assert gateway.fetch_charge(contract.account, "", REFERENCE) is None


def test_anothers_reference_on_the_right_id_is_not_believed(net):
    net.get(f"{PAYMENTS}/{ID}", json={**contract.load("charge_paid"), "external_reference": "another"})
    with pytest.raises(BadGatewayAnswer):
        contract.fetch()


def test_a_paid_charge_says_when_by_which_transfer_and_what_it_cost(net):
    net.get(f"{PAYMENTS}/{ID}", json=contract.load("charge_paid"))
    found = contract.fetch()
    assert (found.fee_cents, found.refunded_cents, found.reference) == (49, 0, REFERENCE)
    assert found.paid_at == datetime(2026, 1, 15, 13, 20, 7, tzinfo=UTC)
    assert found.end_to_end_id == "E12345678202601151320a1b2c3d4e5f"


def test_a_part_given_back_leaves_the_charge_paid(net):
    net.get(f"{PAYMENTS}/{ID}", json=contract.load("charge_paid_refunded_in_part"))
    assert (contract.fetch().status, contract.fetch().refunded_cents) == (Status.PAID, 1000)


def test_a_refund_tried_twice_is_the_same_refund(net):
    net.post(f"{PAYMENTS}/{ID}/refunds", json={"id": 1, "status": "approved"}, status=201)
    for amount in (4990, 4990, 1000):
        gateway.refund(contract.account, ID, REFERENCE, amount)
    first, again, part = (call.request.headers["X-Idempotency-Key"] for call in net.calls)
    assert first == again != part
    assert [asked(net, which)["amount"] for which in range(3)] == [49.9, 49.9, 10.0]


def test_a_refund_refused_with_a_201_is_refused(net):
    net.post(f"{PAYMENTS}/{ID}/refunds", json={"id": 1, "status": "rejected"}, status=201)
    with pytest.raises(GatewayRefused):
        contract.refund()


@pytest.mark.parametrize(
    ("name", "error"), [("charge_cancelled", None), ("charge_paid", GatewayRefused), ("create", BadGatewayAnswer)]
)
def test_a_charge_is_called_off_only_when_it_says_so(net, name, error):
    net.put(f"{PAYMENTS}/{ID}", json=contract.load(name))
    if error:
        with pytest.raises(error):
            contract.cancel()
    else:
        contract.cancel()
    assert asked(net) == {"status": "cancelled"}


def test_a_long_list_comes_in_parts(net):
    body = contract.load("list")
    body["paging"]["total"] = 3
    net.get(f"{PAYMENTS}/search", json=body)
    page = gateway.list_charges(contract.account, DAY, DAY + timedelta(days=1))
    assert (len(page.charges), page.next) == (1, "2")
    body["results"] = body["results"][:1]
    net.replace("GET", f"{PAYMENTS}/search", json=body)
    last = gateway.list_charges(contract.account, DAY, DAY + timedelta(days=1), page.next)
    assert last.next == ""
    query = parse_qs(urlsplit(net.calls[-1].request.url).query)
    assert (query["offset"], query["range"]) == (["2"], ["date_last_updated"])
    assert query["begin_date"] == ["2026-11-20T00:00:00.000+00:00"]


def signed(query, headers=None, body=None):
    return notice(body or contract.load("notice_none"), headers or {}, query)


@pytest.mark.parametrize("at", ["1768483207", "1768483207123"])
@pytest.mark.parametrize("about", [ID, "ORD01JQ4S4KY8"])
def test_a_right_signature_is_still_only_a_hint_about_the_id_that_it_covers(at, about):
    for written in (about, about.lower()):
        headers = signature(SECRET, written, "2066ca19-c6f1", at)
        assert gateway.verify(SIGNED, signed({"data.id": about}, headers)) is Authenticity.UNSIGNED


def test_without_a_request_id_the_manifest_has_none():
    headers = signature(SECRET, ID, "", "1768483207")
    assert gateway.verify(SIGNED, signed({"data.id": ID}, headers)) is Authenticity.FORGED
    assert gateway.verify(SIGNED, signed({"data.id": ID}, _without_request())) is Authenticity.UNSIGNED


def _without_request():
    mac = __import__("hmac").new(SECRET.encode(), f"id:{ID};ts:1768483207;".encode(), "sha256").hexdigest()
    return {"x-signature": f"ts=1768483207,v1={mac}"}


@pytest.mark.parametrize("key", ["x-signature", "x-request-id"])
@pytest.mark.parametrize("value", ["", "é", "ts=1", "v1=00", "ts=1,v1=", "ts=1768483207,v1=" + "0" * 64, ",,=,"])
def test_a_wrong_signature_is_a_forgery(key, value):
    headers = signature(SECRET, ID, "2066ca19-c6f1", "1768483207") | {key: value}
    assert gateway.verify(SIGNED, signed({"data.id": ID}, headers)) is Authenticity.FORGED


def test_a_signature_about_another_payment_by_another_secret_or_none_is_a_forgery():
    right = signature(SECRET, ID, "r", "1768483207")
    foreign = signature("another", ID, "r", "1768483207")
    of_nothing = signature(SECRET, "", "r", "1768483207")
    for query, headers in [
        ({}, of_nothing),
        ({"data.id": "1"}, right),
        ({}, right),
        ({"data.id": ID}, foreign),
        ({"data.id": ID}, {}),
    ]:
        assert gateway.verify(SIGNED, signed(query, headers)) is Authenticity.FORGED


def test_without_a_secret_nothing_can_be_checked():
    assert gateway.verify(contract.account, signed({"data.id": ID})) is Authenticity.UNSIGNED


@pytest.mark.parametrize("name", ["notice_none", "notice_none_created", "notice_none_older"])
def test_a_notice_of_either_generation_names_a_payment_and_no_state(name):
    found = gateway.parse_notice(notice(contract.load(name), query={"t": REFERENCE}))
    assert (found.provider_id, found.reference, found.state) == (ID, REFERENCE, None)


@pytest.mark.parametrize("query", [{"data.id": "1"}, {"id": "1"}, {"data.id": ID, "id": "2"}])
def test_a_notice_that_names_two_payments_is_not_read(query):
    with pytest.raises(UnreadableNotice):
        gateway.parse_notice(notice(contract.load("notice_none"), query=query))


def test_a_notice_of_a_payment_without_an_id_is_not_read():
    with pytest.raises(UnreadableNotice):
        gateway.parse_notice(notice({"type": "payment", "data": {"id": None}}))


@pytest.mark.parametrize("name", ["notice_none_order", "notice_none_claim"])
def test_what_is_about_no_payment_names_none(name):
    found = gateway.parse_notice(notice(contract.load(name)))
    assert (found.provider_id, found.state, found.dispute) == (None, None, None)
    assert found.event


def test_the_test_environment_is_marked():
    assert gateway.parse_notice(notice({**contract.load("notice_none"), "live_mode": False})).test


def test_a_chargeback_is_a_dispute_of_the_payment_that_it_names():
    found = gateway.parse_notice(
        notice(contract.load("notice_dispute_opened"), query={"data.id": "233000061680860000"})
    )
    assert (found.provider_id, found.dispute) == (ID, Dispute("233000061680860000", DisputeState.OPENED))


def test_a_probe_makes_nothing(net):
    net.get(f"{PAYMENTS}/search", json={"results": [], "paging": {"total": 0}})
    gateway.probe(contract.account)
