"""AbacatePay: charges in cents, our reference as externalId, notices whose event counts and whose status does not.

Facts from its public documentation and its OpenAPI description (version 2); what is only seen in other people's
integrations is marked in docs/gateways.md.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

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
    GatewayUnreachable,
    Notice,
    Page,
    Payer,
    PayerField,
    RawNotice,
    Status,
)

_STATUSES = {
    "PENDING": Status.PENDING,
    "PAID": Status.PAID,
    "EXPIRED": Status.EXPIRED,
    "CANCELLED": Status.CANCELLED,
    "REFUNDED": Status.REFUNDED,
}
_DISPUTES = {"transparent.disputed": DisputeState.OPENED, "transparent.lost": DisputeState.LOST}
_EVENTS = ("transparent.completed", "transparent.refunded", *_DISPUTES)
_DONE_BEFORE = "já foi reembolsada"
_LIST = "/transparents/list"


class AbacatePay(Gateway):
    kind = "abacatepay"
    label = "AbacatePay"
    api_url = "https://api.abacatepay.com/v2"
    credentials = (
        Credential("api_key", "Chave de API"),
        Credential(
            "webhook_secret",
            "Secret do webhook",
            required=False,
            help="O secret que você deu ao webhook na AbacatePay. Com ele, avisos falsos são recusados.",
        ),
    )
    lists = True
    registers = True

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        wanted = {"method": "PIX", "data": _wanted(request)}
        answer = _data(_ask(account, "POST", "/transparents/create", json=wanted))
        state = _state(answer)
        told = fields.nested(answer.get("metadata")).get("reference")
        if told not in (None, request.reference) or state.amount_cents != request.amount_cents:
            raise BadGatewayAnswer("the answer is about another charge")
        if answer.get("devMode") is True:
            raise GatewayMisconfigured("the key is of AbacatePay's dev mode: nobody can pay such a code")
        code = fields.text(answer.get("brCode"), limit=1000)
        if not (state.provider_id and code):
            raise BadGatewayAnswer("the answer has no id or no code")
        return Charge(provider_id=state.provider_id, pix_code=code, raw=answer)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        """From the list: the answer to a check names no amount."""
        found = http.if_known(lambda: _listed(_ask(account, "GET", _LIST, query={"id": provider_id})))
        if found is None:
            return None
        mine = [state for state in map(_state, found) if state.provider_id == provider_id]
        if found and not mine:
            raise BadGatewayAnswer("the answer is about another charge")
        return mine[0] if mine else None

    def refund(self, account: Account, provider_id: str, reference: str, amount_cents: int) -> None:
        """Whole charges only, and each only once."""
        state = self.fetch_charge(account, provider_id, reference)
        if state is None or state.amount_cents != amount_cents:
            raise GatewayRefused("AbacatePay gives back a whole charge or nothing")
        if state.status is Status.REFUNDED:
            return
        try:
            _ask(account, "POST", "/transparents/refund", json={"id": provider_id})
        except GatewayRefused as refused:
            if _DONE_BEFORE not in str(refused):
                raise

    def list_charges(self, account: Account, since: datetime, until: datetime, after: str = "") -> Page:
        """By the day they were made, from the day before: what is paid within the period may be older."""
        days = {"startDate": f"{since - timedelta(days=1):%Y-%m-%d}", "endDate": f"{until:%Y-%m-%d}"}
        answer = _ask(account, "GET", _LIST, query={**days, "limit": "100"} | ({"after": after} if after else {}))
        pages = fields.nested(answer.get("pagination"))
        more = fields.text(pages.get("next"), limit=500) if pages.get("hasMore") is True else None
        return Page(tuple(map(_state, _listed(answer))), more or "")

    def register_webhook(self, account: Account, url: str) -> None:
        known = _listed(_ask(account, "GET", "/webhooks/list", query={"search": url}))
        if any(one.get("endpoint") == url for one in known):
            return
        secret = account.credentials.get("webhook_secret") or hashlib.sha256(url.encode()).hexdigest()
        wanted = {"name": "Bot Manager", "endpoint": url, "secret": secret, "events": list(_EVENTS)}
        _ask(account, "POST", "/webhooks/create", json=wanted)

    def verify(self, account: Account, notice: RawNotice) -> Authenticity:
        """The key of its signature is printed in its documentation, the same for all: it is not looked at."""
        return fields.static_token(notice.query.get("webhookSecret", ""), account.credentials.get("webhook_secret"))

    def parse_notice(self, notice: RawNotice) -> Notice:
        body = fields.json_notice(notice.body)
        event, data = fields.text(body.get("event")) or "", fields.nested(body.get("data"))
        charge = fields.inside(data, "transparent")
        return Notice(
            reference=_reference(charge) or fields.ident(notice.query.get("t")),
            provider_id=_comparable(fields.ident(charge.get("id"))),
            state=_told(event, charge),
            test=body.get("devMode") is True,
            event=event,
            dispute=_dispute(event, charge, data),
        )

    def probe(self, account: Account) -> None:
        """Asks for a charge that can't exist: a good key is answered with an empty list, a bad one 401."""
        self.fetch_charge(account, "pix_char_none", "")


def _wanted(request: ChargeRequest) -> dict[str, Any]:
    payer = {} if request.payer.lacks(frozenset(PayerField)) else {"customer": _customer(request.payer)}
    return {
        "amount": request.amount_cents,
        "description": request.description[:500],
        "expiresIn": request.expires_in,
        "externalId": request.reference,
        "metadata": {"reference": request.reference},
        **payer,
    }


def _customer(payer: Payer) -> dict[str, Any]:
    """All four or none: it refuses a part."""
    return {"name": payer.name, "taxId": payer.document, "email": payer.email, "cellphone": payer.phone}


def _ask(account: Account, method: str, path: str, **content: Any) -> dict[str, Any]:
    """Its answer, with an error inside a 200 raised as what it is. Raises GatewayError."""
    headers = {"Authorization": f"Bearer {account.credentials['api_key']}"}
    answer = http.ask(account, method, path, headers=headers, **content)
    error = fields.text(answer.get("error")) or ("it gives no reason" if answer.get("success") is False else None)
    if error == "LOCK_NOT_ACQUIRED":
        raise GatewayUnreachable("something else of this account is under way")
    if error:
        raise GatewayRefused(f"refused: {http.fit(error, account)}")
    return answer


def _data(answer: dict[str, Any]) -> dict[str, Any]:
    return fields.nested(answer.get("data"))


def _listed(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return http.objects(answer.get("data"))


def _reference(charge: dict[str, Any]) -> str | None:
    return fields.ident(charge.get("externalId")) or fields.ident(
        fields.nested(charge.get("metadata")).get("reference")
    )


def _comparable(found: str | None) -> str | None:
    """Not the payment's own id (`char_…`), which notices name and the answer to a create does not."""
    return None if found and found.startswith("char_") else found


def _state(charge: dict[str, Any]) -> ChargeState:
    word = fields.text(charge.get("status")) or ""
    amount = charge.get("amount") if charge.get("paidAmount") is None else charge["paidAmount"]
    return ChargeState(
        status=_STATUSES.get(word, Status.PENDING),
        provider_id=_comparable(fields.ident(charge.get("id"))) or "",
        amount_cents=fields.cents(amount),
        raw_status=word,
        fee_cents=fields.cents(charge.get("platformFee")),
        reference=_reference(charge),
    )


def _told(event: str, charge: dict[str, Any]) -> ChargeState | None:
    """The event counts before the status, which stays "PAID" when the money went back. No event tells of an end."""
    state = _state(charge)
    if event == "transparent.completed":
        return state if state.status is Status.PAID else None
    if event == "transparent.refunded":
        return ChargeState(Status.REFUNDED, state.provider_id, state.amount_cents, raw_status=event)
    return None


def _dispute(event: str, charge: dict[str, Any], data: dict[str, Any]) -> Dispute | None:
    """It has no id of its own there: one of a payment."""
    found, state = fields.ident(charge.get("id")), _DISPUTES.get(event)
    if found is None or state is None:
        return None
    return Dispute(found, state, fields.cents(charge.get("amount")), reason=fields.text(data.get("reason")) or "")


gateway = AbacatePay()
