"""A gateway that touches no money and no network: for a seller's first sale, for demos and for tests.

Its codes are well-formed and can't be paid: the key is an address at example.com, which nobody can register. Its
payments are approved by hand in the panel, so whatever arrives at its notice address is never believed.
"""

from __future__ import annotations

import hashlib

from gateways import brcode
from gateways.base import (
    Account,
    Charge,
    ChargeRequest,
    ChargeState,
    Gateway,
    Notice,
    RawNotice,
    Status,
    UnreadableNotice,
)

MERCHANT = "TESTE"


class Sandbox(Gateway):
    kind = "sandbox"
    label = "Sandbox (teste)"
    api_url = ""
    test_only = True

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        # The reference must not be guessed, and this id is printed in the code.
        txid = hashlib.sha256(request.reference.encode()).hexdigest()[:25]
        code = brcode.build(
            key="teste@example.com",
            info="TESTE - NAO PAGUE",
            amount_cents=request.amount_cents,
            merchant_name=MERCHANT,
            merchant_city=MERCHANT,
            txid=txid,
        )
        return Charge(provider_id=txid, pix_code=code)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        """Always pending: there is no other side that could know more than the core, which keeps the approval."""
        return ChargeState(status=Status.PENDING, provider_id=provider_id, amount_cents=None)

    def refund(self, account: Account, provider_id: str, reference: str, amount_cents: int) -> None:
        """Nothing was taken, nothing is given back."""

    def parse_notice(self, notice: RawNotice) -> Notice:
        raise UnreadableNotice("the sandbox sends no notices")


gateway = Sandbox()
