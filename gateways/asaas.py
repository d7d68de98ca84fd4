"""Asaas: amounts in reais, a customer for each charge and a call of its own for the code, notices with a static token.

Facts from its public documentation; what is only seen in other people's integrations, or remembered, is marked in
docs/gateways.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
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
    GatewayError,
    GatewayTimeout,
    Notice,
    Page,
    Payer,
    PayerField,
    RawNotice,
    Status,
    likeliest,
)

_STATUSES = {
    "PENDING": Status.PENDING,
    "CONFIRMED": Status.PAID,
    "RECEIVED": Status.PAID,
    "OVERDUE": Status.EXPIRED,
    "REFUNDED": Status.REFUNDED,
}
_EVENTS = {
    "PAYMENT_CREATED": Status.PENDING,
    "PAYMENT_CONFIRMED": Status.PAID,
    "PAYMENT_RECEIVED": Status.PAID,
    "PAYMENT_PARTIALLY_REFUNDED": Status.PAID,
    "PAYMENT_OVERDUE": Status.EXPIRED,
    "PAYMENT_DELETED": Status.CANCELLED,
    "PAYMENT_REFUNDED": Status.REFUNDED,
}
_DISPUTES = {
    "PAYMENT_CHARGEBACK_REQUESTED": DisputeState.OPENED,
    "PAYMENT_CHARGEBACK_DISPUTE": DisputeState.OPENED,
    "PAYMENT_AWAITING_CHARGEBACK_REVERSAL": DisputeState.WON,  # the money is on its way back to the seller
}
_BLOCK = "BALANCE_VALUE_BLOCKED"
_BRASILIA = timezone(timedelta(hours=-3))
_PAGE = 100
_SHORTEST_TOKEN = 32


class Asaas(Gateway):
    kind = "asaas"
    label = "Asaas"
    api_url = "https://api.asaas.com/v3"
    credentials = (
        Credential("api_key", "Chave de API"),
        Credential(
            "webhook_token",
            "Token do webhook",
            required=False,
            help="O token de autenticação do webhook na Asaas, de 32 a 255 caracteres; não é a chave de API.",
        ),
    )
    payer_needs = frozenset({PayerField.NAME, PayerField.DOCUMENT})
    finds_by_reference = True
    refunds_parts = True
    cancels = True
    lists = True
    registers = True

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        """No idempotency is known: asked twice, it makes two charges, both under our reference."""
        wanted = _wanted(_customer(account, request.payer), request)
        made = http.ask(account, "POST", "/payments", headers=_headers(account), json=wanted)
        state = _state(made)
        if made.get("externalReference") != request.reference or state.amount_cents != request.amount_cents:
            raise BadGatewayAnswer("the answer is about another charge")
        if not state.provider_id:
            raise BadGatewayAnswer("the answer has no id")
        return Charge(state.provider_id, _code(account, state.provider_id), raw=made)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        if not provider_id:
            return _find(account, reference)
        answer = http.if_known(lambda: http.ask(account, "GET", _path(provider_id), headers=_headers(account)))
        if answer is None:
            return None
        state = _state(answer)
        if state.provider_id != provider_id or state.reference not in (None, reference):
            raise BadGatewayAnswer("the answer is about another charge")
        return state

    def refund(self, account: Account, provider_id: str, reference: str, amount_cents: int) -> None:
        """In whole or in part. It knows no idempotency, so ours stands in the description, and is looked for first."""
        ours = fields.derived("refund", reference, amount_cents)[:20]
        made = _listed(account, f"{_path(provider_id)}/refunds", {})
        if any(ours in str(one.get("description")) for one in made if one.get("status") != "CANCELLED"):
            return
        wanted = {"value": amount_cents / 100, "description": f"Reembolso {ours}"}
        http.ask(account, "POST", f"{_path(provider_id)}/refund", headers=_headers(account), json=wanted)

    def cancel_charge(self, account: Account, provider_id: str, reference: str) -> None:
        answer = http.ask(account, "DELETE", _path(provider_id), headers=_headers(account))
        if answer.get("deleted") is not True:
            raise BadGatewayAnswer("the charge is still there")

    def list_charges(self, account: Account, since: datetime, until: datetime, after: str = "") -> Page:
        """Days, as it counts them: those made first, then those paid."""
        by, _, offset = (after or "dateCreated 0").partition(" ")
        days = {f"{by}[{sign}]": f"{at.astimezone(_BRASILIA):%Y-%m-%d}" for sign, at in (("ge", since), ("le", until))}
        part = {"billingType": "PIX", "limit": str(_PAGE), "offset": offset}
        answer = _ask_list(account, "/payments", days | part)
        charges = tuple(_state(one) for one in answer["data"] if one.get("billingType") == "PIX")
        if answer.get("hasMore") is True and answer["data"]:
            return Page(charges, f"{by} {int(offset) + len(answer['data'])}")
        return Page(charges, "paymentDate 0" if by == "dateCreated" else "")

    def register_webhook(self, account: Account, url: str) -> None:
        """A queue that it has paused after failures is set going again."""
        mine = [one for one in _listed(account, "/webhooks", {}) if one.get("url") == url]
        if not mine:
            http.ask(account, "POST", "/webhooks", headers=_headers(account), json=_hook(account, url))
        elif mine[0].get("enabled") is not True or mine[0].get("interrupted") is True:
            path = f"/webhooks/{quote(str(mine[0].get('id')), safe='')}"
            http.ask(account, "PUT", path, headers=_headers(account), json=_hook(account, url))

    def verify(self, account: Account, notice: RawNotice) -> Authenticity:
        return fields.static_token(
            notice.headers.get("asaas-access-token", ""), account.credentials.get("webhook_token")
        )

    def parse_notice(self, notice: RawNotice) -> Notice:
        body = fields.json_notice(notice.body)
        event = fields.text(body.get("event")) or ""
        payment = fields.nested(body.get("payment"))
        return Notice(
            reference=fields.ident(payment.get("externalReference")),
            provider_id=fields.ident(payment.get("id")),
            state=_told(event, payment),
            event=event,
            dispute=_dispute(event, body, payment),
        )

    def probe(self, account: Account) -> None:
        """Asks for a list that is empty: a bad key is answered 401."""
        _listed(account, "/payments", {"externalReference": "no-such-charge", "limit": "1"})


def _headers(account: Account) -> dict[str, str]:
    return {"access_token": account.credentials["api_key"]}


def _path(provider_id: str) -> str:
    return f"/payments/{quote(provider_id, safe='')}"


def _customer(account: Account, payer: Payer) -> str:
    """A new one: the same person told twice is two customers there. Asaas itself is to write to nobody."""
    wanted = {"name": payer.name, "cpfCnpj": payer.document, "notificationDisabled": True}
    wanted |= {"email": payer.email} if payer.email else {}
    answer = http.ask(account, "POST", "/customers", headers=_headers(account), json=wanted)
    found = fields.ident(answer.get("id"))
    if not found:
        raise BadGatewayAnswer("the answer has no customer")
    return found


def _wanted(customer: str, request: ChargeRequest) -> dict[str, Any]:
    last_day = datetime.now(_BRASILIA) + timedelta(seconds=request.expires_in)
    return {
        "customer": customer,
        "billingType": "PIX",
        "value": request.amount_cents / 100,
        "dueDate": f"{last_day:%Y-%m-%d}",
        "description": request.description[:500],
        "externalReference": request.reference,
    }


def _code(account: Account, provider_id: str) -> str:
    """The charge is made by now: whatever goes wrong here, it exists."""
    try:
        answer = http.ask(account, "GET", f"{_path(provider_id)}/pixQrCode", headers=_headers(account))
    except GatewayTimeout:
        raise
    except GatewayError as why:
        raise BadGatewayAnswer(f"the charge was made and its code not told: {why}") from None
    code = fields.text(answer.get("payload"), limit=1000)
    if not code:
        raise BadGatewayAnswer("the answer has no code")
    return code


def _ask_list(account: Account, path: str, query: dict[str, str]) -> dict[str, Any]:
    answer = http.ask(account, "GET", path, headers=_headers(account), query=query)
    return answer | {"data": http.objects(answer.get("data"))}


def _listed(account: Account, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _ask_list(account, path, query)["data"]
    return found


def _find(account: Account, reference: str) -> ChargeState | None:
    listed = _listed(account, "/payments", {"externalReference": reference})
    return likeliest(_state(one) for one in listed if one.get("externalReference") == reference)


def _hook(account: Account, url: str) -> dict[str, Any]:
    token = account.credentials.get("webhook_token", "")
    return {
        "name": "Bot Manager",
        "url": url,
        "enabled": True,
        "interrupted": False,
        "apiVersion": 3,
        "sendType": "NON_SEQUENTIALLY",
        "events": [*_EVENTS, *_DISPUTES, _BLOCK],
        **({"authToken": token} if len(token) >= _SHORTEST_TOKEN else {}),
    }


def _state(payment: dict[str, Any]) -> ChargeState:
    word = fields.text(payment.get("status")) or ""
    status = _STATUSES.get(word, Status.PENDING)
    gone = payment.get("deleted") is True and status in (Status.PENDING, Status.EXPIRED)
    value, net = fields.cents_of_reais(payment.get("value")), fields.cents_of_reais(payment.get("netValue"))
    return ChargeState(
        status=Status.CANCELLED if gone else status,
        provider_id=fields.ident(payment.get("id")) or "",
        amount_cents=value,
        raw_status=word,
        fee_cents=value - net if value is not None and net is not None and net <= value else None,
        refunded_cents=_refunded(payment.get("refunds")),
        reference=fields.ident(payment.get("externalReference")),
    )


def _refunded(refunds: Any) -> int | None:
    parts = [fields.nested(one) for one in refunds] if isinstance(refunds, list) else []
    done = [fields.cents_of_reais(one.get("value")) for one in parts if one.get("status") == "DONE"]
    return sum(cents for cents in done if cents is not None) if done else None


def _told(event: str, payment: dict[str, Any]) -> ChargeState | None:
    """What a notice says of a sale, when event and content say the same; else None, and the core asks."""
    state = _state(payment)
    return state if payment and state.status == _EVENTS.get(event) else None


def _dispute(event: str, body: dict[str, Any], payment: dict[str, Any]) -> Dispute | None:
    """A PIX dispute is told as a block of the balance, which names no payment."""
    if event == _BLOCK:
        return _block(fields.nested(body.get("balance")), fields.text(body.get("id")))
    claim, state = fields.nested(payment.get("chargeback")), _DISPUTES.get(event)
    found = fields.ident(claim.get("id")) or fields.ident(payment.get("id"))
    if state is None or found is None:
        return None
    return Dispute(
        id=found,
        state=state,
        amount_cents=fields.cents_of_reais(claim.get("value") or payment.get("value")),
        reason=fields.text(claim.get("reason")) or "",
    )


def _block(balance: dict[str, Any], notice_id: str | None) -> Dispute | None:
    """Not those by a court or by Asaas itself."""
    if balance.get("type") != "PIX_INFRACTION" or notice_id is None:
        return None
    reason = fields.text(balance.get("description")) or ""
    return Dispute(notice_id, DisputeState.OPENED, fields.cents_of_reais(balance.get("value")), reason=reason)


gateway = Asaas()
