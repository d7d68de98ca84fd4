"""WiinPay: charges in reais, the key inside the body, name and e-mail demanded, notices without a signature.

Facts from other people's integrations, which contradict each other; docs/gateways.md says where.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gateways import fields, http
from gateways.base import (
    Account,
    BadGatewayAnswer,
    Charge,
    ChargeRequest,
    ChargeState,
    Credential,
    Gateway,
    Notice,
    PayerField,
    RawNotice,
    Status,
    UnreadableNotice,
)

_STATUSES = {
    "paid": Status.PAID,
    "approved": Status.PAID,
    "expired": Status.EXPIRED,
    "canceled": Status.CANCELLED,
    "cancelled": Status.CANCELLED,
    "refunded": Status.REFUNDED,
}
_IDS = ("paymentId", "payment_id", "id")


class WiinPay(Gateway):
    kind = "wiinpay"
    label = "WiinPay"
    api_url = "https://api-v2.wiinpay.com.br"
    credentials = (Credential("api_key", "Chave da API", help="O texto longo que a WiinPay mostra em Integrações."),)
    minimum_cents = 300
    experimental = True
    payer_needs = frozenset({PayerField.NAME, PayerField.EMAIL})
    refunds = False  # no way to is known

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        """No idempotency is known: asked twice, it makes two charges."""
        answer = http.ask(account, "POST", "/payment/create", json=_wanted(account, request))
        made = fields.inside(answer)
        provider_id, code = _id(made), fields.text(made.get("qr_code"), limit=1000)
        if not (provider_id and code):
            raise BadGatewayAnswer("the answer has no id or no code")
        return Charge(provider_id=provider_id, pix_code=code, raw=answer)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        path = f"/payment/list/{quote(provider_id, safe='')}"
        headers = {"Authorization": f"Bearer {account.credentials['api_key']}"}
        found = http.if_known(lambda: http.ask_list(account, path, headers=headers))
        if found is None:
            return None
        states = [_state(fields.inside(one)) for one in found]
        if len(states) != 1 or states[0].provider_id != provider_id:
            raise BadGatewayAnswer("the answer is about another charge")
        return states[0]

    def parse_notice(self, notice: RawNotice) -> Notice:
        """Its shape is not documented: read with and without an envelope, by any of its names for an id."""
        body = fields.json_notice(notice.body)
        state = _state(fields.inside(body))
        reference = state.reference or fields.ident(notice.query.get("t"))
        if not (state.provider_id or reference):
            raise UnreadableNotice("the body names no payment")
        return Notice(reference=reference, provider_id=state.provider_id or None, state=state, event=state.raw_status)

    def probe(self, account: Account) -> None:
        """Asks for a payment that nobody has: a good key is told so, a bad one 401."""
        self.fetch_charge(account, "no-such-charge", "")


def _wanted(account: Account, request: ChargeRequest) -> dict[str, Any]:
    return {
        "api_key": http.credential(account, "api_key"),
        "value": request.amount_cents / 100,
        "name": request.payer.name,
        "email": request.payer.email,
        "description": request.description,
        "webhook_url": request.notice_url,
        "metadata": {"reference": request.reference},
    }


def _id(told: dict[str, Any]) -> str | None:
    """None where it goes by several names that disagree."""
    found = {told[name] for name in _IDS if isinstance(told.get(name), str | int)}
    return fields.ident(found.pop()) if len(found) == 1 else None


def _state(told: dict[str, Any]) -> ChargeState:
    word = fields.text(told.get("status")) or ""
    return ChargeState(
        status=_STATUSES.get(word.lower(), Status.PENDING),
        provider_id=_id(told) or "",
        amount_cents=fields.cents_of_reais(told.get("value")),
        raw_status=word,
        reference=fields.ident(fields.nested(told.get("metadata")).get("reference")),
    )


gateway = WiinPay()
