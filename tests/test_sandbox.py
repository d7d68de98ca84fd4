"""The sandbox takes no money and believes nobody."""

from __future__ import annotations

import dataclasses

import responses

from gateways import brcode
from gateways.base import Authenticity, Status
from gateways.sandbox import gateway
from tests.gateway_contract import Contract, notice

contract = Contract(gateway)


def test_its_code_is_well_formed_and_says_that_it_is_a_test():
    code = brcode.parse(contract.create().pix_code)
    assert (code.amount_cents, code.merchant_name, code.key) == (4990, "TESTE", "teste@example.com")
    assert not code.dynamic


def test_the_same_reference_gives_the_same_charge_and_stays_secret():
    charge = contract.create()
    other = gateway.create_charge(contract.account, dataclasses.replace(contract.request, reference="another"))
    assert charge == contract.create()
    assert charge.provider_id != other.provider_id
    assert contract.request.reference not in charge.pix_code


def test_it_touches_no_network():
    with responses.RequestsMock():
        contract.create()
        gateway.refund(contract.account, "1", "a", 4990)
        gateway.probe(contract.account)


def test_it_knows_of_no_payment():
    state = gateway.fetch_charge(contract.account, "1", "a")
    assert (state.status, state.amount_cents) == (Status.PENDING, None)


def test_nobody_can_pay_by_a_notice():
    assert gateway.test_only
    assert gateway.verify(contract.account, notice({"status": "paid"})) is Authenticity.UNSIGNED
