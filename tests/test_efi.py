"""What is the Central Bank's Pix API's own, and Efí's; the rest they inherit from test_gateways."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import requests
import responses

from gateways import brcode
from gateways.base import (
    Authenticity,
    BadGatewayAnswer,
    DisputeState,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayTimeout,
    GatewayUnreachable,
    Status,
    UnreadableNotice,
)
from gateways.efi import Efi, gateway
from gateways.pix_api import txid_of
from tests.gateway_contract import BASE_URL, DAY, Contract, notice

contract = Contract(gateway)
REFERENCE, TXID = contract.facts["reference"], contract.facts["provider_id"]
COB, CODE = contract.load("create")[""], contract.load("create")["qr"]
TRANSFER = "E12345678202601151320a1b2c3d4e5f"
TOKEN = contract.facts["parts"]["POST /oauth/token"]


@pytest.fixture
def efi():
    """One that holds no token yet."""
    return Efi()


@pytest.fixture
def net():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.post(f"{BASE_URL}/oauth/token", json=TOKEN)
        yield mock


def asked(net, method):
    return [json.loads(call.request.body) for call in net.calls if call.request.method == method and call.request.body]


def paths(net, method):
    return [call.request.url.removeprefix(BASE_URL) for call in net.calls if call.request.method == method]


def paid(**changes):
    cob = contract.load("charge_paid")
    return {**cob, "pix": [{**cob["pix"][0], **changes}]}


def returned(name, status, **more):
    return {"id": name, "rtrId": "D1", "valor": "49.90", "horario": {}, "status": status, **more}


# Tokens and the certificate


def test_a_token_is_asked_for_once_with_basic_and_goes_with_every_call(efi, net):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json=COB)
    for _ in range(3):
        efi.fetch_charge(contract.account, TXID, REFERENCE)
    first, *rest = (call.request for call in net.calls)
    assert (first.method, first.url) == ("POST", f"{BASE_URL}/oauth/token")
    assert first.headers["Authorization"].startswith("Basic ")
    assert json.loads(first.body) == {"grant_type": "client_credentials"}
    assert {request.headers["Authorization"] for request in rest} == {"Bearer canary-access-token"}
    assert len(rest) == 3


def test_the_accounts_certificate_goes_with_every_call(efi, net, monkeypatch):
    seen = []
    monkeypatch.setattr("gateways.http._exchange", lambda request, seconds, own: seen.append(own) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        efi.probe(contract.account)
    monkeypatch.setattr(efi._tokens, "_known", lambda account: "held")
    with pytest.raises(ZeroDivisionError):
        efi.probe(contract.account)
    assert seen == [contract.facts["credentials"]["certificate_pem"]] * 2


@pytest.mark.parametrize("status", [400, 401])
def test_no_token_for_these_credentials_is_the_sellers_to_mend(efi, status):
    with responses.RequestsMock() as net:
        net.post(f"{BASE_URL}/oauth/token", json={"error": "invalid_client"}, status=status)
        with pytest.raises(GatewayMisconfigured):
            efi.probe(contract.account)


@pytest.mark.parametrize("answer", [{}, {"access_token": 17}, {"access_token": ""}])
def test_an_answer_without_a_token_is_no_answer(efi, answer):
    with responses.RequestsMock() as net:
        net.post(f"{BASE_URL}/oauth/token", json=answer)
        with pytest.raises(GatewayUnreachable):  # nothing came of it: no charge was asked for yet
            efi.probe(contract.account)


# Making


def test_a_charge_is_named_by_a_txid_of_our_reference(efi, net):
    net.put(f"{BASE_URL}/v2/cob/{TXID}", json=COB, status=201)
    net.get(f"{BASE_URL}/v2/loc/789/qrcode", json=CODE)
    charge = efi.create_charge(contract.account, dataclasses.replace(contract.request, description="x" * 500))
    assert asked(net, "PUT") == [
        {
            "calendario": {"expiracao": 1800},
            "valor": {"original": "49.90"},
            "chave": contract.facts["credentials"]["pix_key"],
            "solicitacaoPagador": "x" * 140,
        }
    ]
    assert charge.provider_id == TXID
    assert re.fullmatch("[a-zA-Z0-9]{26,35}", TXID)
    assert txid_of("another") != TXID


def test_a_code_in_the_charge_itself_is_not_asked_for_again(efi, net):
    net.put(f"{BASE_URL}/v2/cob/{TXID}", json={**COB, "pixCopiaECola": CODE["qrcode"]}, status=201)
    assert efi.create_charge(contract.account, contract.request).pix_code == CODE["qrcode"]
    assert not paths(net, "GET")


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_a_charge_whose_code_is_refused_may_be_there(efi, net, status):
    net.put(f"{BASE_URL}/v2/cob/{TXID}", json=COB, status=201)
    net.get(f"{BASE_URL}/v2/loc/789/qrcode", json={"mensagem": "erro"}, status=status)
    with pytest.raises(BadGatewayAnswer):
        efi.create_charge(contract.account, contract.request)


def test_a_charge_whose_code_does_not_come_may_be_there(efi, net):
    net.put(f"{BASE_URL}/v2/cob/{TXID}", json=COB, status=201)
    net.get(f"{BASE_URL}/v2/loc/789/qrcode", body=requests.ReadTimeout())
    with pytest.raises(GatewayTimeout):
        efi.create_charge(contract.account, contract.request)


@pytest.mark.parametrize("status", [400, 409])
def test_a_charge_made_before_is_that_charge(efi, net, status):
    taken = {"nome": "txid_duplicado", "mensagem": "Campo txid informado já foi utilizado em outra cobrança"}
    net.put(f"{BASE_URL}/v2/cob/{TXID}", json=taken, status=status)
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json={**COB, "pixCopiaECola": CODE["qrcode"]})
    assert efi.create_charge(contract.account, contract.request).provider_id == TXID


def test_a_charge_made_before_for_another_amount_is_not_ours(efi, net):
    net.put(f"{BASE_URL}/v2/cob/{TXID}", json={"mensagem": "duplicado"}, status=409)
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json={**COB, "valor": {"original": "4.99"}})
    with pytest.raises(BadGatewayAnswer, match="another amount"):
        efi.create_charge(contract.account, contract.request)


def test_a_refusal_by_the_central_banks_form_is_told_in_its_words(efi, net):
    said = {"type": "https://pix.bcb.gov.br/api/v2/error/CobOperacaoInvalida", "title": "Cobrança inválida."}
    said |= {"status": 400, "detail": "A chave não é sua.", "violacoes": [{"razao": "x", "propriedade": "cob.chave"}]}
    net.put(f"{BASE_URL}/v2/cob/{TXID}", json=said, status=400, content_type="application/problem+json")
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json={}, status=404)
    with pytest.raises(GatewayRefused, match="A chave não é sua") as caught:
        efi.create_charge(contract.account, contract.request)
    assert caught.value.http_status == 400


# Asking


def test_a_charge_is_found_by_our_reference_alone(efi, net):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json=paid())
    state = efi.fetch_charge(contract.account, "", REFERENCE)
    assert (state.status, state.provider_id, state.end_to_end_id) == (Status.PAID, TXID, TRANSFER)
    assert state.paid_at.isoformat() == "2026-01-15T13:20:07.891000+00:00"


def test_a_txid_in_other_letters_is_the_same_charge(efi, net):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json={**paid(), "txid": TXID.upper()})
    assert efi.fetch_charge(contract.account, TXID, REFERENCE).provider_id == TXID
    assert gateway.parse_notice(notice({"pix": [{"endToEndId": TRANSFER, "txid": TXID.upper()}]})).provider_id == TXID
    assert gateway.normal_id("Abc0123456789012345678901234") == "Abc0123456789012345678901234"


def made(ago, lasts):
    at = datetime.now(UTC) - timedelta(seconds=ago)
    return {**COB, "calendario": {"criacao": at.isoformat(), "expiracao": lasts}}


@pytest.mark.parametrize(
    ("ago", "lasts", "word", "status"),
    [
        (1800, 1700, "ATIVA", Status.EXPIRED),
        (1800, "1700", "ATIVA", Status.EXPIRED),
        (1800, 1770, "ATIVA", Status.PENDING),  # clocks differ
        (0, 1800, "ATIVA", Status.PENDING),
        (-90, 60, "ATIVA", Status.PENDING),
        (1800, None, "ATIVA", Status.PENDING),
        (1800, -1, "ATIVA", Status.PENDING),
        (1800, 10**11, "ATIVA", Status.PENDING),
        (1800, 60, "CONCLUIDA", Status.PAID),
        (1800, 60, "NOVA", Status.PENDING),
    ],
)
def test_the_end_of_a_charge_is_added_up(net, ago, lasts, word, status):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json={**made(ago, lasts), "status": word})
    assert Efi().fetch_charge(contract.account, TXID, REFERENCE).status is status


@pytest.mark.parametrize(
    ("valor", "cents"), [("4.99", 499), ("4990", 499000), (49.9, None), (4990, None), ("49,90", None), (None, None)]
)
def test_what_came_counts_before_what_was_asked(efi, net, valor, cents):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json=paid(valor=valor))
    assert efi.fetch_charge(contract.account, TXID, REFERENCE).amount_cents == cents


@pytest.mark.parametrize(
    ("returns", "status", "back"),
    [
        ([returned("a", "DEVOLVIDO")], Status.REFUNDED, 4990),
        (returned("a", "DEVOLVIDO"), Status.REFUNDED, 4990),
        ([returned("a", "DEVOLVIDO", valor="10.00"), returned("b", "DEVOLVIDO", valor="39.90")], Status.REFUNDED, 4990),
        ([returned("a", "DEVOLVIDO", valor="10.00")], Status.PAID, 1000),
        ([returned("a", "EM_PROCESSAMENTO")], Status.PAID, None),
        ([returned("a", "NAO_REALIZADO")], Status.PAID, None),
        ([returned("a", "DEVOLVIDO", natureza="RETIRADA")], Status.REFUNDED, 4990),
        ([returned("a", "DEVOLVIDO", natureza="MED_FRAUDE")], Status.PAID, None),
        ([returned("a", "DEVOLVIDO", natureza="MED_PIX_AUTOMATICO")], Status.PAID, None),
        ("x", Status.PAID, None),
    ],
)
def test_only_what_the_seller_gave_back_is_a_refund(efi, net, returns, status, back):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json=paid(devolucoes=returns))
    state = efi.fetch_charge(contract.account, TXID, REFERENCE)
    assert (state.status, state.refunded_cents) == (status, back)


# Giving back and calling off


def give_back(efi, amount=4990):
    efi.refund(contract.account, TXID, REFERENCE, amount)


def test_the_same_refund_has_the_same_name_and_another_has_another(efi, net):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json=paid())
    net.put(re.compile(f"{BASE_URL}/v2/pix/.*"), json=returned("x", "EM_PROCESSAMENTO"), status=201)
    for amount in (4990, 4990, 1000):
        give_back(efi, amount)
    first, again, part = paths(net, "PUT")
    assert first == again != part
    assert re.fullmatch(f"/v2/pix/{TRANSFER}/devolucao/[a-zA-Z0-9]{{1,35}}", first)
    assert asked(net, "PUT") == [{"valor": "49.90"}, {"valor": "49.90"}, {"valor": "10.00"}]


@pytest.mark.parametrize("status", ["EM_PROCESSAMENTO", "DEVOLVIDO"])
def test_a_refund_whose_name_is_taken_is_done(efi, net, status):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json=paid())
    net.put(re.compile(f"{BASE_URL}/v2/pix/.*"), json={"mensagem": "id já utilizado"}, status=400)
    net.get(re.compile(f"{BASE_URL}/v2/pix/.*"), json=returned("x", status))
    give_back(efi)


def test_a_refund_that_was_not_done_is_refused_and_the_next_has_another_name(efi, net):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json=paid())
    not_done = returned("x", "NAO_REALIZADO", motivo="Saldo insuficiente")
    net.put(re.compile(f"{BASE_URL}/v2/pix/.*"), json=not_done, status=201)
    with pytest.raises(GatewayRefused, match="Saldo insuficiente"):
        give_back(efi)
    name = paths(net, "PUT")[0].rpartition("/")[2]
    net.replace("GET", f"{BASE_URL}/v2/cob/{TXID}", json=paid(devolucoes={**not_done, "id": name}))
    with pytest.raises(GatewayRefused):
        give_back(efi)
    assert paths(net, "PUT")[1].rpartition("/")[2] != name


def test_a_refused_refund_says_why(efi, net):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json=paid())
    net.put(re.compile(f"{BASE_URL}/v2/pix/.*"), json={"detail": "passou do prazo"}, status=400)
    net.get(re.compile(f"{BASE_URL}/v2/pix/.*"), json={}, status=404)
    with pytest.raises(GatewayRefused, match="passou do prazo"):
        give_back(efi)


@pytest.mark.parametrize("cob", [COB, {**COB, "pix": []}, {**COB, "pix": [{"valor": "49.90"}]}])
def test_what_was_not_paid_is_not_given_back(efi, net, cob):
    net.get(f"{BASE_URL}/v2/cob/{TXID}", json=cob)
    with pytest.raises(GatewayRefused):
        give_back(efi)
    assert not paths(net, "PUT")


def test_a_charge_is_called_off(efi, net):
    net.patch(f"{BASE_URL}/v2/cob/{TXID}", json={**COB, "status": "REMOVIDA_PELO_USUARIO_RECEBEDOR"})
    efi.cancel_charge(contract.account, "", REFERENCE)
    assert asked(net, "PATCH") == [{"status": "REMOVIDA_PELO_USUARIO_RECEBEDOR"}]


# Lists


def test_a_period_is_asked_for_page_by_page_charges_first_and_then_payments(efi, net):
    pages = {"parametros": {"paginacao": {"quantidadeDePaginas": 2}}}
    net.get(f"{BASE_URL}/v2/cob", json={**pages, "cobs": [COB, {**COB, "txid": None}, 17]})
    static = {"endToEndId": "E2", "valor": "1.00"}
    net.get(f"{BASE_URL}/v2/pix", json={**pages, "pix": [*paid()["pix"], static]})
    after, seen = "", []
    while True:
        page = efi.list_charges(contract.account, DAY, DAY + timedelta(days=1), after)
        seen += [(one.provider_id, one.status, one.amount_cents) for one in page.charges]
        if not (after := page.next):
            break
    assert seen == [(TXID, Status.PENDING, 4990)] * 2 + [(TXID, Status.PAID, 4990)] * 2
    asked_for = [dict(call.request.params) for call in net.calls if call.request.method == "GET"]
    assert [one["paginacao.paginaAtual"] for one in asked_for] == ["0", "1", "0", "1"]
    assert {(one["inicio"], one["fim"]) for one in asked_for} == {("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z")}


def test_an_answer_without_a_list_is_not_an_empty_list(efi, net):
    net.get(f"{BASE_URL}/v2/cob", json={"parametros": {}})
    with pytest.raises(BadGatewayAnswer):
        efi.list_charges(contract.account, DAY, DAY)


# Notices


def payments(*txids):
    return [{"endToEndId": f"E{number}", "txid": txid, "valor": "49.90"} for number, txid in enumerate(txids)]


def test_several_payments_are_a_notice_each_and_the_same_one_in_other_company():
    one, two, three = payments("a" * 32, "b" * 32, "c" * 32)
    together = gateway.split(notice({"pix": [one, two, three]}))
    again = gateway.split(notice({"pix": [dict(reversed(three.items())), one]}))
    assert [gateway.parse_notice(part).provider_id for part in together] == ["a" * 32, "b" * 32, "c" * 32]
    assert [part.body for part in again] == [together[2].body, together[0].body]


def test_one_payment_and_what_can_not_be_read_stay_as_they_came():
    for body in (b'{ "pix": [{"endToEndId": "E1"}]}', b"{", b"[]", b'{"pix": 17}', b'{"pix": []}'):
        assert [part.body for part in gateway.split(notice(body))] == [body]


def test_one_bad_payment_does_not_spoil_the_others():
    good, *bad = gateway.split(notice({"pix": [*payments("a" * 32), 17, {}, {"endToEndId": {}}]}))
    assert gateway.parse_notice(good).provider_id == "a" * 32
    for part in bad:
        with pytest.raises(UnreadableNotice):
            gateway.parse_notice(part)


def test_several_payments_are_not_read_as_one():
    with pytest.raises(UnreadableNotice):
        gateway.parse_notice(notice({"pix": payments("a" * 32, "b" * 32)}))


@pytest.mark.parametrize("name", ["notice_none_sent", "notice_none_test_call"])
def test_money_that_went_out_and_calls_that_only_try_name_no_charge(name):
    found = gateway.parse_notice(notice(contract.load(name)))
    assert (found.provider_id, found.end_to_end_id, found.reference, found.dispute) == (None, None, None, None)


@pytest.mark.parametrize("name", ["notice_none", "notice_none_returned", "notice_none_single_return"])
def test_a_notice_names_the_charge_and_is_never_believed(name):
    raw = notice(contract.load(name), {"x-ssl-client-verify": "SUCCESS"})
    found = gateway.parse_notice(raw)
    assert (found.provider_id, found.end_to_end_id, found.state) == (TXID, TRANSFER, None)
    assert gateway.verify(contract.account, raw) is Authenticity.UNSIGNED


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("DEVOLVIDO", DisputeState.LOST),
        ("EM_PROCESSAMENTO", DisputeState.OPENED),
        ("NAO_REALIZADO", DisputeState.OPENED),
        ("?", DisputeState.OPENED),
        (None, DisputeState.OPENED),
    ],
)
@pytest.mark.parametrize("nature", ["MED_FRAUDE", "MED_OPERACIONAL", "MED_PIX_AUTOMATICO", "MED_NOVA"])
def test_a_return_that_the_payers_bank_asked_for_is_a_dispute(status, state, nature):
    own, theirs = returned("a", "DEVOLVIDO"), returned("b", status, natureza=nature)
    found = gateway.parse_notice(notice({"pix": [{**payments(TXID)[0], "devolucoes": [theirs, own]}]}))
    assert (found.dispute.id, found.dispute.state, found.dispute.amount_cents) == ("D1", state, 4990)
    assert (found.dispute.reason, found.state) == (nature, None)


# Registering


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://loja.example.com/w/efi/s", "https://loja.example.com/w/efi/s?ignorar="),
        ("https://loja.example.com/w/efi/s?a=b", "https://loja.example.com/w/efi/s?a=b&ignorar="),
    ],
)
def test_the_address_is_registered_for_the_key_without_a_certificate_of_ours(efi, net, url, target):
    net.put(re.compile(f"{BASE_URL}/v2/webhook/.*"), json={"webhookUrl": target})
    known = {**contract.account.credentials, "pix_key": "loja/../x@example.com"}
    efi.register_webhook(dataclasses.replace(contract.account, credentials=known), url)
    assert asked(net, "PUT") == [{"webhookUrl": target}]
    assert paths(net, "PUT") == ["/v2/webhook/loja%2F..%2Fx%40example.com"]
    assert net.calls[-1].request.headers["x-skip-mtls-checking"] == "true"


def test_the_code_of_the_samples_can_be_paid():
    assert brcode.parse(CODE["qrcode"]).amount_cents == 4990
