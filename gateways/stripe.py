"""Stripe: PaymentIntents of PIX in cents, asked for with forms; notices signed with a secret of the seller's own.

Facts from its own SDKs' types and signature check; what is only remembered is marked in docs/gateways.md.
"""

from __future__ import annotations

import hmac
import re
import time
from datetime import UTC, datetime, timedelta
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
    Page,
    Payer,
    RawNotice,
    Status,
    likeliest,
)

_STATUSES = {"succeeded": Status.PAID, "canceled": Status.CANCELLED}
_EVENTS = {
    "payment_intent.created": Status.PENDING,
    "payment_intent.requires_action": Status.PENDING,
    "payment_intent.processing": Status.PENDING,
    "payment_intent.succeeded": Status.PAID,
    "payment_intent.payment_failed": Status.EXPIRED,
    "payment_intent.canceled": Status.CANCELLED,
}
_DISPUTES = {"won": DisputeState.WON, "lost": DisputeState.LOST, "warning_closed": DisputeState.CANCELLED}
_INTENTS = "/v1/payment_intents"
_SHORTEST, _LONGEST = 60, 1_209_600  # seconds
_TOLERANCE_S = 300
_PART = re.compile(r"[a-z0-9]{1,8}=[0-9a-f]{1,64}")


class Stripe(Gateway):
    kind = "stripe"
    label = "Stripe"
    api_url = "https://api.stripe.com"
    credentials = (
        Credential("secret_key", "Chave secreta"),
        Credential(
            "webhook_signing_secret",
            "Segredo de assinatura do webhook",
            required=False,
            help="Começa com whsec_ e aparece na página do endpoint, depois de cadastrar nosso endereço na Stripe.",
        ),
    )
    signed = True
    finds_by_reference = True
    refunds_parts = True
    cancels = True
    lists = True

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        key = fields.derived("charge", request.reference)
        answer = _ask(account, "POST", _INTENTS, form=_wanted(request), key=key)
        state = _state(answer)
        if (state.reference, state.amount_cents, state.currency) != (request.reference, request.amount_cents, "BRL"):
            raise BadGatewayAnswer("the answer is about another charge")
        if answer.get("livemode") is False:
            raise GatewayMisconfigured("the key is of Stripe's test mode: nobody can pay such a code")
        shown = fields.nested(fields.nested(answer.get("next_action")).get("pix_display_qr_code"))
        code = fields.text(shown.get("data"), limit=1000)
        if not (state.provider_id and code):
            raise BadGatewayAnswer("the answer has no id or no code")
        return Charge(provider_id=state.provider_id, pix_code=code, raw=answer)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        if not provider_id:
            return _find(account, reference)
        answer = http.if_known(lambda: _ask(account, "GET", _path(provider_id), query={"expand[]": "latest_charge"}))
        if answer is None:
            return None
        state = _state(answer)
        if state.provider_id != provider_id or state.reference not in (None, reference):
            raise BadGatewayAnswer("the answer is about another charge")
        return state

    def refund(self, account: Account, provider_id: str, reference: str, amount_cents: int) -> None:
        """In whole or in part. Its idempotency ends after a day, so ours stands in the metadata, and is looked for."""
        ours = fields.derived("refund", reference, amount_cents)
        made = _listed(_ask(account, "GET", "/v1/refunds", query={"payment_intent": provider_id, "limit": "100"}))
        if any(fields.nested(one.get("metadata")).get("refund") == ours for one in made if not _failed(one)):
            return
        wanted = {"payment_intent": provider_id, "amount": str(amount_cents), "metadata[refund]": ours}
        key = f"{ours}-{sum(map(_failed, made))}"  # after one that failed, another
        if _failed(_ask(account, "POST", "/v1/refunds", form=wanted, key=key)):
            raise GatewayRefused("Stripe did not give the money back")

    def cancel_charge(self, account: Account, provider_id: str, reference: str) -> None:
        answer = _ask(account, "POST", f"{_path(provider_id)}/cancel", form={})
        if _state(answer).status is not Status.CANCELLED:
            raise BadGatewayAnswer("the charge is still open")

    def list_charges(self, account: Account, since: datetime, until: datetime, after: str = "") -> Page:
        """By when they were made, from a day before: what is paid within the period may be older."""
        start, end = int((since - timedelta(days=1)).timestamp()), int(until.timestamp())
        query = {"created[gte]": str(start), "created[lte]": str(end), "limit": "100", "expand[]": "data.latest_charge"}
        answer = _ask(account, "GET", _INTENTS, query=query | ({"starting_after": after} if after else {}))
        found = _listed(answer)
        charges = tuple(_state(one) for one in found if one.get("payment_method_types") == ["pix"])
        last = fields.ident(found[-1].get("id")) if found and answer.get("has_more") is True else None
        return Page(charges, last or "")

    def verify(self, account: Account, notice: RawNotice) -> Authenticity:
        secret = account.credentials.get("webhook_signing_secret")
        if not secret:
            return Authenticity.UNSIGNED
        return Authenticity.SIGNED if _signed(secret, notice) else Authenticity.FORGED

    def parse_notice(self, notice: RawNotice) -> Notice:
        body = fields.json_notice(notice.body)
        event = fields.text(body.get("type")) or ""
        about = fields.nested(fields.nested(body.get("data")).get("object"))
        intent = about.get("id") if event.startswith("payment_intent.") else about.get("payment_intent")
        return Notice(
            reference=fields.ident(fields.nested(about.get("metadata")).get("reference")),
            provider_id=fields.ident(intent),
            state=_told(event, about),
            test=body.get("livemode") is False,
            event=event,
            dispute=_dispute(about) if event.startswith("charge.dispute.") else None,
        )

    def probe(self, account: Account) -> None:
        """Asks for one charge at most: a bad key is answered 401."""
        _listed(_ask(account, "GET", _INTENTS, query={"limit": "1"}))


def _wanted(request: ChargeRequest) -> dict[str, str]:
    return {
        "amount": str(request.amount_cents),
        "currency": "brl",
        "confirm": "true",
        "description": request.description[:500],
        "metadata[reference]": request.reference,
        "payment_method_types[0]": "pix",
        "payment_method_data[type]": "pix",
        "payment_method_options[pix][expires_after_seconds]": str(min(max(request.expires_in, _SHORTEST), _LONGEST)),
        **_payer(request.payer),
    }


def _payer(payer: Payer) -> dict[str, str]:
    """As far as the buyer told us."""
    told = {"name": payer.name, "email": payer.email, "tax_id": payer.document}
    return {f"payment_method_data[billing_details][{name}]": value for name, value in told.items() if value}


def _ask(
    account: Account,
    method: str,
    path: str,
    *,
    query: dict[str, str] | None = None,
    form: dict[str, str] | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {account.credentials['secret_key']}"}
    headers |= {"Idempotency-Key": key} if key else {}
    return http.ask(account, method, path, headers=headers, query=query, form=form)


def _path(provider_id: str) -> str:
    return f"{_INTENTS}/{quote(provider_id, safe='')}"


def _listed(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return http.objects(answer.get("data"))


def _find(account: Account, reference: str) -> ChargeState | None:
    """What was made within the last minute may not be found yet."""
    query = {"query": f"metadata['reference']:'{reference}'", "expand[]": "data.latest_charge"}
    found = map(_state, _listed(_ask(account, "GET", f"{_INTENTS}/search", query=query)))
    return likeliest(state for state in found if state.reference == reference)


def _failed(refund: dict[str, Any]) -> bool:
    return refund.get("status") in ("failed", "canceled")


def _state(intent: dict[str, Any]) -> ChargeState:
    word = fields.text(intent.get("status")) or ""
    status = _STATUSES.get(word, Status.PENDING)
    charge = fields.nested(intent.get("latest_charge"))
    if status is Status.PAID and charge.get("refunded") is True:
        status = Status.REFUNDED
    if word == "requires_payment_method" and intent.get("last_payment_error"):
        status = Status.EXPIRED
    came_in = status in (Status.PAID, Status.REFUNDED)
    return ChargeState(
        status=status,
        provider_id=fields.ident(intent.get("id")) or "",
        amount_cents=fields.cents(intent.get("amount_received" if came_in else "amount")),
        currency=(fields.text(intent.get("currency")) or "").upper(),
        end_to_end_id=_transfer(charge),
        raw_status=word,
        refunded_cents=fields.cents(charge.get("amount_refunded")),
        reference=fields.ident(fields.nested(intent.get("metadata")).get("reference")),
    )


def _transfer(charge: dict[str, Any]) -> str | None:
    pix = fields.nested(fields.nested(charge.get("payment_method_details")).get("pix"))
    return fields.ident(pix.get("bank_transaction_id"))


def _told(event: str, about: dict[str, Any]) -> ChargeState | None:
    """What a notice says of a sale, when event and content say the same; else None, and the core asks."""
    if event == "charge.refunded":
        return _returned(about)
    state = _state(about)
    return state if about and state.status == _EVENTS.get(event) else None


def _returned(charge: dict[str, Any]) -> ChargeState | None:
    """In whole, or in part: then the sale still stands."""
    if charge.get("status") != "succeeded":
        return None
    return ChargeState(
        status=Status.REFUNDED if charge.get("refunded") is True else Status.PAID,
        provider_id=fields.ident(charge.get("payment_intent")) or "",
        amount_cents=fields.cents(charge.get("amount")),
        currency=(fields.text(charge.get("currency")) or "").upper(),
        end_to_end_id=_transfer(charge),
        raw_status="refunded",
        refunded_cents=fields.cents(charge.get("amount_refunded")),
    )


def _dispute(about: dict[str, Any]) -> Dispute | None:
    found = fields.ident(about.get("id"))
    if found is None:
        return None
    return Dispute(
        id=found,
        state=_DISPUTES.get(fields.text(about.get("status")) or "", DisputeState.OPENED),
        amount_cents=fields.cents(about.get("amount")),
        opened_at=_at(about.get("created")),
        due_at=_at(fields.nested(about.get("evidence_details")).get("due_by")),
        reason=fields.text(about.get("reason")) or "",
    )


def _at(seconds: Any) -> datetime | None:
    found = fields.cents(seconds)  # a whole number of a sane size, whatever it counts
    return datetime.fromtimestamp(found, UTC) if found and found < 10**11 else None


def _signed(secret: str, notice: RawNotice) -> bool:
    """`t=<seconds>,v1=<hex>[,v1=…]`, over the time and the body. While a secret is changed there are two v1."""
    parts = notice.headers.get("stripe-signature", "").split(",")
    if not all(_PART.fullmatch(part) for part in parts):
        return False
    times = [part[2:] for part in parts if part.startswith("t=")]
    if len(times) != 1 or not times[0].isdecimal() or abs(time.time() - int(times[0])) > _TOLERANCE_S:
        return False
    right = hmac.digest(secret.encode(), f"{times[0]}.".encode() + notice.body, "sha256").hex()
    return any(fields.same_secret(part, f"v1={right}") for part in parts if len(part) == len(right) + 3)


gateway = Stripe()
