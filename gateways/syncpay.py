"""SyncPay: charges in reais, an access token for credentials, the whole payer demanded, notices without a signature.

Facts from other people's integrations, some of which quote its documentation; docs/gateways.md says which.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gateways import fields, http
from gateways.base import (
    Account,
    Authenticity,
    BadGatewayAnswer,
    Charge,
    ChargeRequest,
    ChargeState,
    Credential,
    Dispute,
    DisputeState,
    Gateway,
    GatewayMisconfigured,
    GatewayRefused,
    Notice,
    PayerField,
    RawNotice,
    Status,
    UnreadableNotice,
)
from gateways.tokens import Tokens

_STATUSES = {
    "pending": Status.PENDING,
    "completed": Status.PAID,
    "paid_out": Status.PAID,  # of its older notices
    "failed": Status.CANCELLED,
    "refunded": Status.REFUNDED,
}
_DISPUTED = "med"


class SyncPay(Gateway):
    kind = "syncpay"
    label = "SyncPay"
    api_url = "https://api.syncpayments.com.br/api/partner/v1"
    credentials = (
        Credential("client_id", "Client ID"),
        Credential("client_secret", "Client Secret"),
        Credential(
            "webhook_token",
            "Token do webhook",
            required=False,
            help="Só se você viu na SyncPay o token que ela envia com os avisos: com ele aqui, avisos sem ele são "
            "recusados.",
        ),
    )
    payer_needs = frozenset(PayerField)
    refunds = False  # no way to is known

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        """No idempotency is known: asked twice, it makes two charges."""
        wanted = _wanted(request)
        answer = _ask(account, "POST", "/cash-in", wanted)
        provider_id, code = fields.ident(answer.get("identifier")), fields.text(answer.get("pix_code"), limit=1000)
        if not (provider_id and code):
            raise BadGatewayAnswer("the answer has no id or no code")
        return Charge(provider_id=provider_id, pix_code=code, raw=answer)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        answer = http.if_known(lambda: _ask(account, "GET", f"/transaction/{quote(provider_id, safe='')}"))
        if answer is None:
            return None
        state = _state(fields.nested(answer.get("data")), "reference_id")
        if state.provider_id != provider_id:
            raise BadGatewayAnswer("the answer is about another charge")
        return state

    def verify(self, account: Account, notice: RawNotice) -> Authenticity:
        token = account.credentials.get("webhook_token")
        return fields.static_token(notice.headers.get("authorization", ""), token and f"Bearer {token}")

    def parse_notice(self, notice: RawNotice) -> Notice:
        """Of two generations: in an envelope, and flat. The header `event` says what both are about."""
        body = fields.json_notice(notice.body)
        event = notice.headers.get("event") or fields.text(body.get("event")) or ""
        if _of_a_withdrawal(event, body):
            return Notice(event=event)  # of no sale, whatever else it names
        told = fields.inside(body)
        state = _state(told, "id")
        if not state.provider_id:
            raise UnreadableNotice("the body has no id")
        disputed = state.raw_status.lower() == _DISPUTED
        return Notice(
            reference=fields.ident(notice.query.get("t")),
            provider_id=state.provider_id,
            state=None if disputed else state,
            event=event or state.raw_status,
            end_to_end_id=state.end_to_end_id,
            dispute=_dispute(told, state) if disputed else None,
        )

    def probe(self, account: Account) -> None:
        """Asks for the balance, which makes nothing."""
        _ask(account, "GET", "/balance")


def _wanted(request: ChargeRequest) -> dict[str, Any]:
    payer = request.payer
    if not (payer.document and len(payer.document) == 11):
        raise GatewayRefused("SyncPay charges people with a CPF, not companies")
    phone = fields.national_phone(payer.phone)
    if len(phone) not in (10, 11):
        raise GatewayRefused("SyncPay wants a Brazilian phone number")
    return {
        "amount": request.amount_cents / 100,
        "description": request.description,
        "webhook_url": request.notice_url,
        "client": {"name": payer.name, "cpf": payer.document, "email": payer.email, "phone": phone},
    }


def _ask(account: Account, method: str, path: str, json: Any = None) -> dict[str, Any]:
    def ask(token: str) -> dict[str, Any]:
        return http.ask(account, method, path, headers={"Authorization": f"Bearer {token}"}, json=json)

    return _tokens.call(account, ask)


def _new_token(account: Account) -> tuple[str, float]:
    names = ("client_id", "client_secret")
    wanted = {name: http.credential(account, name) for name in names}
    try:
        answer = http.ask(account, "POST", "/auth-token", json=wanted)
    except GatewayRefused as refused:  # of all that is asked, only the credentials can be wrong
        raise GatewayMisconfigured(str(refused)) from None
    token = fields.text(answer.get("access_token"), limit=5000)
    if not token:
        raise BadGatewayAnswer("the answer has no token")
    return token, float(fields.cents(answer.get("expires_in")) or 0)


_tokens = Tokens(_new_token)


def _state(told: dict[str, Any], id_name: str) -> ChargeState:
    word = fields.text(told.get("status")) or ""
    return ChargeState(
        status=_STATUSES.get(word.lower(), Status.PENDING),
        provider_id=fields.ident(told.get(id_name)) or "",
        amount_cents=fields.cents_of_reais(told.get("amount")),
        currency=fields.text(told.get("currency")) or "BRL",
        end_to_end_id=fields.ident(told.get("end_to_end")),
        raw_status=word,
    )


def _of_a_withdrawal(event: str, body: dict[str, Any]) -> bool:
    """Where header and body disagree, either is enough: a withdrawal was once booked as a sale."""
    events = [event, fields.text(body.get("event")) or ""]
    return any(not one.lower().startswith("cashin.") for one in events if one)


def _dispute(told: dict[str, Any], state: ChargeState) -> Dispute:
    """It names no claim of its own, so there is one for each charge."""
    return Dispute(
        id=state.provider_id,
        state=DisputeState.OPENED,
        amount_cents=state.amount_cents,
        opened_at=fields.when(told.get("updated_at")),
        reason=state.raw_status,
    )


gateway = SyncPay()
