"""Paradise: charges in cents, the whole payer demanded, our reference echoed, notices without a signature.

Facts from a copy of its public documentation and from other people's integrations; docs/gateways.md says which.
"""

from __future__ import annotations

from typing import Any

from gateways import fields, http
from gateways.base import (
    Account,
    BadGatewayAnswer,
    Charge,
    ChargeRequest,
    ChargeState,
    Credential,
    Gateway,
    GatewayRefused,
    Notice,
    PayerField,
    RawNotice,
    Status,
    UnreadableNotice,
    likeliest,
)

_STATUSES = {
    "pending": Status.PENDING,
    "approved": Status.PAID,
    "failed": Status.CANCELLED,  # refused, cancelled or expired: it does not say which
    "refunded": Status.REFUNDED,
}


class Paradise(Gateway):
    kind = "paradise"
    label = "Paradise"
    api_url = "https://multi.paradisepags.com/api/v1"
    credentials = (
        Credential("api_key", "Chave da API", help="Começa com sk_."),
        Credential("product_hash", "Código do produto", help="Começa com prod_. Está na página do produto."),
    )
    payer_needs = frozenset(PayerField)
    finds_by_reference = True

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        """A reference is taken once: asked twice, the second is refused and the first stands."""
        answer = http.ask(
            account, "POST", "/transaction.php", headers=_headers(account), json=_wanted(account, request)
        )
        provider_id, code = fields.ident(answer.get("transaction_id")), fields.text(answer.get("qr_code"), limit=1000)
        if answer.get("status") == "error" and not provider_id:
            raise GatewayRefused(f"refused with 200: {http.said(answer, account)}")
        if not (answer.get("status") == "success" and provider_id and code):
            raise BadGatewayAnswer("the answer is no success, or has no id or no code")
        if answer.get("id") not in (None, request.reference):
            raise BadGatewayAnswer("the answer is about another charge")
        if fields.cents(answer.get("amount")) not in (None, request.amount_cents):
            raise BadGatewayAnswer("the charge has another amount")
        return Charge(provider_id=provider_id, pix_code=code, raw=answer)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        if not provider_id:
            return _find(account, reference)
        query = {"action": "get_transaction", "id": provider_id}
        answer = http.if_known(lambda: http.ask(account, "GET", "/query.php", headers=_headers(account), query=query))
        if answer is None:
            return None
        if answer.get("status") in ("error", "success"):
            raise BadGatewayAnswer(f"no charge in a 200: {http.said(answer, account)}")
        state = _state(answer)
        if state.provider_id != provider_id or state.reference not in (None, reference):
            raise BadGatewayAnswer("the answer is about another charge")
        return state

    def refund(self, account: Account, provider_id: str, reference: str, amount_cents: int) -> None:
        """Whole charges only: its refund takes no amount. One that went back already is left as it is."""
        state = self.fetch_charge(account, provider_id, reference)
        if state is None or state.amount_cents != amount_cents:
            raise GatewayRefused("Paradise gives back a whole charge or nothing")
        if state.status is Status.REFUNDED:
            return
        wanted = {"transaction_id": int(state.provider_id)}
        answer = http.ask(account, "POST", "/refund.php", headers=_headers(account), json=wanted)
        if answer.get("success") is False:
            raise GatewayRefused(f"refused with 200: {http.said(answer, account)}")
        if answer.get("success") is not True:
            raise BadGatewayAnswer("the answer says neither yes nor no")

    def parse_notice(self, notice: RawNotice) -> Notice:
        body = fields.json_notice(notice.body)
        state = _state(body, "transaction_id")
        reference = state.reference or fields.ident(notice.query.get("t"))
        if not (state.provider_id or reference):
            raise UnreadableNotice("the body names no transaction")
        about = body.get("webhook_type") in (None, "transaction") and body.get("payment_method") in (None, "pix")
        return Notice(
            reference=reference,
            provider_id=state.provider_id or None,
            state=state if about else None,
            event=state.raw_status,
        )

    def probe(self, account: Account) -> None:
        """Asks for a reference that nobody has: a good key is answered an empty list, a bad one 401."""
        _find(account, "no-such-charge")


def _wanted(account: Account, request: ChargeRequest) -> dict[str, Any]:
    payer = request.payer
    return {
        "amount": request.amount_cents,
        "description": request.description,
        "reference": request.reference,
        "productHash": http.credential(account, "product_hash"),
        "postback_url": request.notice_url,
        "customer": {
            "name": payer.name,
            "email": payer.email,
            "phone": fields.national_phone(payer.phone),
            "document": payer.document,
        },
    }


def _headers(account: Account) -> dict[str, str]:
    return {"X-API-Key": account.credentials["api_key"]}


def _find(account: Account, reference: str) -> ChargeState | None:
    query = {"action": "list_transactions", "external_id": reference}
    found = http.if_known(lambda: http.ask_list(account, "/query.php", headers=_headers(account), query=query))
    if found is None:
        return None
    if any(one.get("external_id") != reference for one in found):
        raise BadGatewayAnswer("the answer is about another charge")
    return likeliest(map(_state, found))


def _state(answer: dict[str, Any], id_name: str = "id") -> ChargeState:
    """Its times have no zone, and are left out."""
    word = fields.text(answer.get("status")) or ""
    return ChargeState(
        status=_STATUSES.get(word.lower(), Status.PENDING),
        provider_id=fields.ident(answer.get(id_name)) or "",
        amount_cents=fields.cents(answer.get("amount")),
        raw_status=word,
        reference=fields.ident(answer.get("external_id")),
    )


gateway = Paradise()
