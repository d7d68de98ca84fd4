"""The contract that every provider keeps; a new one is picked up by being there (see gateway_contract)."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import traceback
from pathlib import Path

import pytest
import requests
import responses
from hypothesis import given, settings
from hypothesis import strategies as st

import gateways
from gateways import brcode
from gateways.base import (
    Account,
    Authenticity,
    BadGatewayAnswer,
    Charge,
    Gateway,
    GatewayError,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayTimeout,
    GatewayUnreachable,
    Notice,
    PayerField,
    Status,
    UnreadableNotice,
)
from tests.gateway_contract import BASE_URL, PAYER, PAYLOADS, everyone, expected_status, notice, online, pairs

ROOT = Path(__file__).parents[1]
few = settings(max_examples=60, deadline=None, database=None)


def by_kind(contracts):
    return pytest.mark.parametrize("contract", contracts, ids=lambda contract: contract.kind)


def by_payload(prefix):
    return pytest.mark.parametrize(
        ("contract", "name"), [pytest.param(c, name, id=f"{c.kind}-{name}") for c, name in pairs(prefix)]
    )


def by_call(but=""):
    found = [(contract, call) for contract in online() for call in contract.calls() if call != but]
    return pytest.mark.parametrize(
        ("contract", "call"), [pytest.param(contract, call, id=f"{contract.kind}-{call}") for contract, call in found]
    )


@pytest.fixture(autouse=True)
def parts(request, monkeypatch):
    """What else the provider under test is asked for on the way (see gateway_contract)."""
    about = request.node.callspec.params.get("contract") if hasattr(request.node, "callspec") else None
    monkeypatch.setattr("tests.test_gateways.PARTS", about.facts.get("parts", {}) if about else {})


PARTS = {}


def answering(json_body=None, **kwargs):
    """A network on which everything answers the same, but for `parts`."""
    net = responses.RequestsMock(assert_all_requests_are_fired=False)
    whole = json_body if isinstance(json_body, dict) else {}
    for call, answer in PARTS.items():
        method, _, path = call.partition(" ")
        if not isinstance(answer, str):
            net.add(method, re.compile(re.escape(BASE_URL + path)), json=answer)
        elif answer in whole:
            net.add(method, re.compile(re.escape(BASE_URL) + path), json=whole[answer])
    if json_body is not None:
        kwargs["json"] = whole.get("", json_body)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        net.add(method, re.compile(f"{BASE_URL}/.*"), **kwargs)
    return net


# What a provider's file declares


@by_kind(everyone())
def test_a_provider_is_named_as_its_file_and_has_its_tests_and_payloads(contract):
    assert gateways.get(contract.kind) is contract.gateway
    assert type(contract.gateway).__module__ == f"gateways.{contract.kind}"
    assert (PAYLOADS / contract.kind / "contract.json").is_file()
    assert (ROOT / "tests" / f"test_{contract.kind}.py").is_file()
    assert f"`{contract.kind}`" in (ROOT / "docs" / "gateways.md").read_text()


@by_kind(everyone())
def test_a_provider_declares_what_the_panel_shows(contract):
    gateway = contract.gateway
    names = [credential.name for credential in gateway.credentials]
    assert gateway.label
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.islower() for name in names)
    assert {c.name for c in gateway.credentials if c.required} <= set(contract.facts["credentials"]) <= set(names)
    assert gateway.minimum_cents >= 1
    assert gateway.test_only or gateway.api_url.startswith("https://")
    assert not gateway.api_url.endswith("/")
    assert gateway.keys_path == "" or gateway.keys_path.startswith("/")
    assert not (gateway.experimental and gateway.signed)
    assert gateway.refunds or not gateway.refunds_parts


@by_kind(online())
def test_a_provider_has_payloads_for_paid_and_pending(contract):
    assert {"charge_paid", "charge_pending"} <= set(contract.names("charge"))
    assert any(name.startswith("notice_") for name in contract.names("notice"))


def test_gateways_know_neither_tables_nor_flask():
    forbidden = {"models", "flask", "sqlalchemy", "web", "wsgi", "procrastinate"}
    for path in Path(gateways.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            else:
                continue
            assert not {name.split(".")[0] for name in imported} & forbidden, path
            ours = {name for name in imported if name.startswith("bot_manager.")}
            assert ours <= {"bot_manager.network"}, path


def test_no_provider_compares_secrets_with_an_equals_sign():
    for path in Path(gateways.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                words = ast.unparse(node).lower()
                assert not any(word in words for word in ("signature", "token", "secret", "hmac")), f"{path}: {words}"


@by_kind(everyone())
def test_the_stored_form_of_an_id_stays_as_it_is(contract):
    for provider_id in ("9F86-AB", "abc", "123"):
        once = contract.gateway.normal_id(provider_id)
        assert contract.gateway.normal_id(once) == once


# Making a charge


@by_kind(online())
def test_a_charge_has_an_id_and_a_code_for_the_amount(contract):
    with answering(contract.load("create")):
        charge = contract.create()
    assert charge.provider_id == contract.gateway.normal_id(charge.provider_id) == contract.facts["provider_id"]
    assert brcode.parse(charge.pix_code).amount_cents in (None, contract.facts["amount_cents"])


@by_kind(everyone())
def test_an_amount_below_the_minimum_is_refused_without_asking(contract):
    request = dataclasses.replace(contract.request, amount_cents=contract.gateway.minimum_cents - 1)
    with responses.RequestsMock(), pytest.raises(GatewayRefused):
        contract.gateway.create_charge(contract.account, request)


GOOD_CODE = brcode.build(url="pix.example.com/1", amount_cents=4990, merchant_name="LOJA", merchant_city="RECIFE")
BAD_CODES = {
    "missing": None,
    "empty": "",
    "number": 17,
    "address": "https://gateway.test/qr.png",
    "image": "data:image/png;base64,iVBORw0KGgo=",
    "checksum": GOOD_CODE[:-1] + ("0" if GOOD_CODE[-1] != "0" else "1"),
    "cut": GOOD_CODE[:60],
    "other amount": brcode.build(url="pix.example.com/1", amount_cents=49, merchant_name="LOJA", merchant_city="RIO"),
}


@by_kind(online())
@pytest.mark.parametrize("code", BAD_CODES.values(), ids=BAD_CODES.keys())
def test_a_code_that_no_bank_would_take_never_reaches_a_buyer(contract, code):
    with answering(contract.changed("create", "answer.code", code)), pytest.raises(BadGatewayAnswer):
        contract.create()


class Careless(Gateway):
    """Hands on whatever code it was given."""

    kind = label = "careless"
    minimum_cents = 4990

    def __init__(self, code):
        self.code = code

    def make_charge(self, account, request):
        return Charge("1", self.code)


def test_a_code_is_checked_whoever_made_it():
    with pytest.raises(BadGatewayAnswer, match="asks 49 cents, not 4990"):
        Careless(BAD_CODES["other amount"]).create_charge(Account("", {}), everyone()[0].request)


def test_the_minimum_itself_is_enough():
    request = dataclasses.replace(everyone()[0].request, amount_cents=Careless.minimum_cents)
    assert Careless(GOOD_CODE).create_charge(Account("", {}), request).pix_code == GOOD_CODE


PAYER_NEEDS = [(contract, need) for contract in everyone() for need in sorted(contract.gateway.payer_needs)]


@pytest.mark.parametrize(("contract", "need"), PAYER_NEEDS, ids=[f"{c.kind}-{need}" for c, need in PAYER_NEEDS])
def test_a_payer_that_lacks_what_is_needed_is_refused_without_asking_and_nothing_is_invented(contract, need):
    request = dataclasses.replace(contract.request, payer=dataclasses.replace(PAYER, **{need: None}))
    with responses.RequestsMock(), pytest.raises(GatewayRefused, match=need):
        contract.gateway.create_charge(contract.account, request)


@by_kind(online())
def test_what_is_not_needed_of_the_payer_is_not_waited_for(contract):
    others = {field: None for field in PayerField if field not in contract.gateway.payer_needs}
    request = dataclasses.replace(contract.request, payer=dataclasses.replace(PAYER, **others))
    with answering(contract.load("create")):
        assert contract.gateway.create_charge(contract.account, request).pix_code


@by_kind([contract for contract in online() if not contract.gateway.refunds])
def test_a_provider_that_gives_nothing_back_says_so_without_asking(contract):
    with responses.RequestsMock(), pytest.raises(GatewayRefused):
        contract.refund()


# Asking for a charge


@by_payload("charge")
def test_a_charge_is_read_as_what_it_is(contract, name):
    with answering(contract.load(name)):
        state = contract.fetch()
    assert state.status == expected_status(name)
    assert state.provider_id == contract.facts["provider_id"]
    assert (state.amount_cents, state.currency) == (contract.facts["amount_cents"], "BRL")
    assert state.paid_at is None or state.paid_at.utcoffset().total_seconds() == 0


@by_kind(online())
@pytest.mark.parametrize("word", ["", "paid?", "PAGO", "payed", "true", True, None, 1, [], {"$ne": None}, "не"])
def test_a_word_that_we_do_not_know_is_pending(contract, word):
    with answering(contract.changed("charge_paid", "answer.status", word)):
        assert contract.fetch().status is Status.PENDING


@by_kind(online())
@pytest.mark.parametrize("amount", [None, "49,90", True, -4990, [], {"$gt": 0}, "٤٩٩٠", "4_990", 10**15])
def test_an_amount_that_can_not_be_read_is_not_guessed(contract, amount):
    with answering(contract.changed("charge_paid", "answer.amount", amount)):
        try:
            amount_cents = contract.fetch().amount_cents
        except BadGatewayAnswer:
            return
    assert amount_cents is None


@by_kind(online())
def test_an_unknown_charge_is_none(contract):
    with answering([], status=contract.facts["missing"]):
        assert contract.fetch() is None


@by_kind(online())
@pytest.mark.parametrize("other", ["another-charge", None, 7])
def test_an_answer_about_another_charge_is_not_believed(contract, other):
    with answering(contract.changed("charge_paid", "answer.id", other)), pytest.raises(BadGatewayAnswer):
        contract.fetch()


@by_kind([contract for contract in online() if contract.gateway.lists])
def test_a_list_is_read_as_what_it_is(contract):
    with answering(contract.load("list")):
        page = contract.list()
    assert [(one.provider_id, one.status, one.amount_cents) for one in page.charges] == [
        (contract.facts["provider_id"], Status.PAID, contract.facts["amount_cents"])
    ]


# Errors

NOT_ANSWERS = {
    "html": b"<html>manutencao</html>",
    "empty": b"",
    "array": b"[1]",
    "number": b"17",
    "nan": b'{"value": NaN}',
    "twice": b'{"status": "created", "status": "paid"}',
    "deep": b"[" * 5000 + b"]" * 5000,
    "not utf-8": b'{"id": "\xff"}',
    "large": b'{"a": "' + b"a" * (2 * 1024 * 1024) + b'"}',
}


@by_call()
@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_the_sellers_to_mend(contract, call, status):
    with answering({"message": "Unauthenticated."}, status=status), pytest.raises(GatewayMisconfigured) as caught:
        getattr(contract, call)()
    assert caught.value.permanent


@by_call()
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_provider_may_be_asked_again(contract, call, status):
    with answering({}, status=status), pytest.raises(GatewayUnreachable) as caught:
        getattr(contract, call)()
    assert not caught.value.permanent


@by_call()
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_broken_provider_may_be_asked_again(contract, call, status):
    with answering({}, status=status), pytest.raises((GatewayUnreachable, BadGatewayAnswer)) as caught:
        getattr(contract, call)()
    assert not caught.value.permanent


@by_kind(online())
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_provider_that_breaks_while_making_a_charge_may_have_made_it(contract, status):
    with answering({}, status=status), pytest.raises(BadGatewayAnswer):
        contract.create()


@by_kind(online())
@pytest.mark.parametrize("status", [400, 404, 409, 418, 422])
def test_a_refused_charge_is_permanent(contract, status):
    with answering({"message": "valor inválido"}, status=status), pytest.raises(GatewayRefused) as caught:
        contract.create()
    assert caught.value.permanent
    assert caught.value.http_status == status
    assert "valor inválido" in str(caught.value)


@by_call()
def test_no_connection_means_that_nothing_happened(contract, call):
    with answering(body=requests.ConnectTimeout()), pytest.raises(GatewayUnreachable):
        getattr(contract, call)()


@by_call()
@pytest.mark.parametrize("failure", [requests.ReadTimeout(), requests.ConnectionError("reset")])
def test_no_answer_means_that_nobody_knows(contract, call, failure):
    with answering(body=failure), pytest.raises(GatewayTimeout):
        getattr(contract, call)()


@by_call()
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(contract, call, status):
    headers = {"Location": "http://127.0.0.1/latest/meta-data"}
    with answering({}, status=status, headers=headers) as net:
        with pytest.raises(BadGatewayAnswer):
            getattr(contract, call)()
        assert [found.response.status_code for found in net.calls].count(status) == 1


@by_call()
@pytest.mark.parametrize("body", NOT_ANSWERS.values(), ids=NOT_ANSWERS.keys())
def test_an_answer_that_is_no_json_object_is_not_believed(contract, call, body):
    with answering(body=body):
        try:
            getattr(contract, call)()
        except BadGatewayAnswer:
            return
    assert call == "refund", "only a refund is done by its status alone"


@by_call()
@few
@given(data=st.data())
def test_no_answer_whatever_it_holds_is_more_than_a_gateway_error(contract, call, data):
    payload = contract.load(data.draw(st.sampled_from(["create", *contract.names("charge")])))
    with answering(data.draw(mutations(payload))):
        try:
            getattr(contract, call)()
        except GatewayError:
            pass


# Secrets


@by_call()
@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500])
def test_a_provider_that_echoes_secrets_does_not_make_us_tell_them(contract, call, status):
    secrets = [*contract.facts["credentials"].values(), contract.request.reference, contract.request.notice_url]
    people = ["123.456.789-09", "12345678909", "fulana@example.com", "+55 11 91234-5678"]
    said = " ".join([*secrets, *people])
    with answering({"message": said, "errors": [{"description": said}]}, status=status):
        told = told_by(getattr(contract, call))
    assert not [secret for secret in [*secrets, *people] if secret in told]


@by_call(but="fetch_keys")
def test_a_credential_that_can_not_be_sent_is_not_told_either(contract, call):
    spoiled = {name: f"canary‘{name}’\r\nX: y" for name in contract.facts["credentials"]}
    spoilt = dataclasses.replace(contract, other_credentials=spoiled)
    with answering({}), pytest.raises(GatewayMisconfigured) as caught:
        getattr(spoilt, call)()
    assert "canary" not in f"{caught.value!r}"


@by_kind(everyone())
def test_no_repr_holds_a_secret(contract):
    raw = notice({"token": "canary-body"}, {"authorization": "canary-header"}, {"t": "canary-query"})
    told = f"{contract.account!r} {contract.request!r} {raw!r} {Notice(reference='canary-reference')!r}"
    assert "canary" not in told
    assert contract.request.reference not in told


# Notices


@by_payload("notice")
def test_a_notice_is_read_as_what_it_says(contract, name):
    found = contract.gateway.parse_notice(notice(contract.load(name)))
    status = found.state.status if found.state else "dispute" if found.dispute else "none"
    assert status == expected_status(name)
    if status == Status.PAID:
        assert found.state.amount_cents == contract.facts["amount_cents"]
        assert found.provider_id or found.reference
        assert found.provider_id in (None, contract.facts["provider_id"])
    if found.dispute:
        assert found.state is None
        assert name.startswith(f"notice_dispute_{found.dispute.state}")
        linked = found.provider_id or found.reference or found.end_to_end_id
        assert bool(linked) == ("unlinked" not in name)
    assert not found.test


@by_kind(online())
@pytest.mark.parametrize("word", ["", "paid?", "PAGO", "payed", "true", True, None, 1, [], {"$ne": None}])
def test_a_notice_with_a_word_that_we_do_not_know_says_nothing_of_payment(contract, word):
    for name in contract.names("notice_paid"):
        found = contract.gateway.parse_notice(notice(contract.changed(name, "notice.status", word)))
        assert found.state is None or found.state.status is Status.PENDING


UNREADABLE = {
    "empty": b"",
    "blank": b" \n",
    "not utf-8": b'{"id": "\xff\xfe"}',
    "utf-16": '{"id": "1"}'.encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"id": "1"}',
    "array": b"[]",
    "number": b"17",
    "text": b'"paid"',
    "null": b"null",
    "trailing": b'{"id": "1"} {"id": "2"}',
    "cut": b'{"id": "1"',
    "nan": b'{"id": "1", "value": NaN}',
    "infinite": b'{"id": "1", "value": 1e400}',
    "twice": b'{"id": "1", "id": "2"}',
    "deep": b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "digits": b'{"id": ' + b"9" * 5000 + b"}",
    "half a character": b'{"id": "\\ud800"}',
    "nul": b'{"id": "\\u0000"}',
    "large": b'{"id": "' + b"a" * 1024 * 1024 + b'"}',
    "large form": b"id=" + b"a" * 1024 * 1024,
}


@by_kind(everyone())
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_can_not_be_read_is_said_to_be_unreadable(contract, body):
    with pytest.raises(UnreadableNotice):
        contract.gateway.parse_notice(notice(body))


@by_kind(everyone())
@few
@given(body=st.binary(max_size=200))
def test_no_bytes_break_the_reader(contract, body):
    readable(contract, body)


@by_payload("notice")
@few
@given(data=st.data())
def test_no_mutation_of_a_notice_breaks_the_reader(contract, name, data):
    readable(contract, json.dumps(data.draw(mutations(contract.load(name)))).encode())


@by_payload("notice")
@few
@given(data=st.data())
def test_no_damage_to_a_notice_breaks_the_reader(contract, name, data):
    body = bytearray(json.dumps(contract.load(name)).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    readable(contract, bytes(body))


# Proof


@by_kind([contract for contract in everyone() if not contract.gateway.signed])
def test_a_provider_without_signatures_is_never_believed_by_its_word(contract):
    headers = {"x-webhook-signature": "AAAA", "x-signature": "ts=1,v1=00", "authorization": "Bearer x"}
    for name in contract.names("notice"):
        for given_headers in ({}, headers):
            found = contract.gateway.verify(contract.account, notice(contract.load(name), given_headers))
            assert found is not Authenticity.SIGNED


SIGNED = [contract for contract in everyone() if contract.gateway.signed]


@by_kind(SIGNED)
def test_a_right_signature_is_believed(contract):
    proof = contract.proof()
    for name in contract.names("notice"):
        body = notice(contract.load(name)).body
        found = contract.gateway.verify(proof.signed_account(), notice(body, proof.sign(body)))
        assert found is Authenticity.SIGNED


@by_kind(SIGNED)
def test_a_wrong_signature_is_a_forgery(contract):
    proof = contract.proof()
    body = notice(contract.load(contract.names("notice_paid")[0])).body
    right = proof.sign(body)[proof.SIGNATURE_HEADER]
    swapped = right.swapcase()
    flipped = ("B" if right[10] != "B" else "C").join([right[:10], right[11:]])
    wrong = [
        "",
        " ",
        "0",
        right[:-4],
        right[:20],
        right * 2,
        f"{right},{right}",
        swapped,
        flipped,
        "é" * 20,
        "\x00",
        "==",
    ]
    for signature in wrong:
        found = contract.gateway.verify(proof.signed_account(), notice(body, {proof.SIGNATURE_HEADER: signature}))
        assert found is Authenticity.FORGED, signature


@by_kind(SIGNED)
def test_no_signature_where_there_should_be_one_is_a_forgery(contract):
    body = notice(contract.load(contract.names("notice_paid")[0])).body
    assert contract.gateway.verify(contract.proof().signed_account(), notice(body)) is Authenticity.FORGED


@by_kind(SIGNED)
def test_a_signature_by_another_key_is_a_forgery(contract):
    proof = contract.proof()
    body = notice(contract.load(contract.names("notice_paid")[0])).body
    forged = notice(body, proof.sign(body, key=proof.FOREIGN_KEY))
    assert contract.gateway.verify(proof.signed_account(), forged) is Authenticity.FORGED


@by_kind(SIGNED)
def test_a_right_signature_over_another_body_is_a_forgery(contract):
    proof = contract.proof()
    body = contract.load(contract.names("notice_paid")[0])
    as_sent = json.dumps(body, indent=1).encode()
    others = [json.dumps(body).encode(), as_sent + b" ", as_sent.replace(b"4990", b"1990"), b"", b"{}"]
    for other in others:
        found = contract.gateway.verify(proof.signed_account(), notice(other, proof.sign(as_sent)))
        assert found is Authenticity.FORGED


@by_kind(SIGNED)
@few
@given(data=st.data())
def test_one_flipped_bit_of_the_body_is_a_forgery(contract, data):
    proof = contract.proof()
    body = bytearray(notice(contract.load(contract.names("notice_paid")[0])).body)
    headers = proof.sign(bytes(body))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert contract.gateway.verify(proof.signed_account(), notice(bytes(body), headers)) is Authenticity.FORGED


# Helpers

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


@st.composite
def mutations(draw, payload):
    """The payload with a few of its values replaced by anything, or taken away."""
    payload = json.loads(json.dumps(payload))
    for _ in range(draw(st.integers(1, 3))):
        node = payload
        while isinstance(node, dict) and node:
            key = draw(st.sampled_from(sorted(node)))
            if not isinstance(node[key], dict) or draw(st.integers(0, 4)) == 0:
                node[key] = draw(json_values)
                if draw(st.integers(0, 4)) == 0:
                    del node[key]
                break
            node = node[key]
    return payload


def told_by(call):
    """All that a log could show of the error that a call ends in."""
    try:
        call()
    except GatewayError as error:
        return "".join(traceback.format_exception(error)) + repr(error)
    return ""


def readable(contract, body):
    parts = contract.gateway.split(notice(body))
    assert parts
    for part in parts:
        try:
            found = contract.gateway.parse_notice(part)
        except UnreadableNotice:
            continue
        assert isinstance(found, Notice)
