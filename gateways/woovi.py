"""Woovi (OpenPix): charges in cents, our reference as their correlationID, notices signed with their RSA key.

Facts from its public documentation (developers.woovi.com); what it leaves open is listed in docs/gateways.md.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

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
    Notice,
    RawNotice,
    Status,
)

_STATUSES = {"ACTIVE": Status.PENDING, "COMPLETED": Status.PAID, "EXPIRED": Status.EXPIRED}
_EVENTS = {
    "CHARGE_CREATED": Status.PENDING,
    "CHARGE_COMPLETED": Status.PAID,
    "CHARGE_COMPLETED_NOT_SAME_CUSTOMER_PAYER": Status.PAID,
    "CHARGE_EXPIRED": Status.EXPIRED,
}
# What is accepted is the dispute: the money goes back to who paid.
_DISPUTES = {
    "DISPUTE_CREATED": DisputeState.OPENED,
    "DISPUTE_ACCEPTED": DisputeState.LOST,
    "DISPUTE_REJECTED": DisputeState.WON,
    "DISPUTE_CANCELED": DisputeState.CANCELLED,
}
_SHORTEST_SECONDS = 300
_COMMENT = 140


class Woovi(Gateway):
    kind = "woovi"
    label = "Woovi (OpenPix)"
    api_url = "https://api.woovi.com"
    credentials = (
        Credential("app_id", "AppID"),
        Credential(
            "webhook_token",
            "Authorization do webhook",
            required=False,
            help="O valor do cabeçalho Authorization que você deu ao webhook na Woovi. A assinatura prova que o aviso "
            "é da Woovi; este valor prova que é da sua conta.",
        ),
    )
    signed = True
    finds_by_reference = True
    keys_path = "/api/v1/webhook/public-keys"
    refunds_parts = True
    defence_days = 3.0

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        wanted = {
            "correlationID": request.reference,
            "value": request.amount_cents,
            "type": "DYNAMIC",
            "comment": request.description[:_COMMENT],
            "expiresIn": max(request.expires_in, _SHORTEST_SECONDS),
        }
        answer = http.ask(
            account,
            "POST",
            "/api/v1/charge",
            headers=_headers(account),
            query={"return_existing": "true"},
            json=wanted,
        )
        charge = fields.nested(answer.get("charge"))
        _check_same(charge, request.reference)
        if fields.cents(charge.get("value")) not in (None, request.amount_cents):
            raise BadGatewayAnswer("the charge has another amount")
        code = fields.text(charge.get("brCode") or answer.get("brCode"), limit=1000)
        if not code:
            raise BadGatewayAnswer("the answer has no code")
        return Charge(provider_id=_id(charge) or request.reference, pix_code=code, raw=answer)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        # An unknown charge is a 400, by the documentation.
        answer = http.if_known(
            lambda: http.ask(account, "GET", _path(reference), headers=_headers(account)), unknown=(400, 404)
        )
        if answer is None:
            return None
        charge = fields.nested(answer.get("charge"))
        _check_same(charge, reference)
        return _state(charge, {}, provider_id)

    def refund(self, account: Account, provider_id: str, reference: str, amount_cents: int) -> None:
        """In whole or in part. The same amount of the same charge is given back once, however often this is called."""
        wanted = {
            "correlationID": fields.derived("refund", reference, amount_cents)[:32],
            "value": amount_cents,
        }
        http.send(account, "POST", f"{_path(reference)}/refund", headers=_headers(account), json=wanted)

    def verify(self, account: Account, notice: RawNotice) -> Authenticity:
        """The signature is Woovi's, the same for all its customers; `webhook_token`, when set, ties it to one."""
        token = account.credentials.get("webhook_token")
        if token and not fields.same_secret(notice.headers.get("authorization", ""), token):
            return Authenticity.FORGED
        keys = [key for key in map(_key, account.public_keys) if key]
        if not keys:
            return Authenticity.UNSIGNED
        signature = _signature(notice)
        if any(_signed_by(key, signature, notice.body) for key in keys):
            return Authenticity.SIGNED
        return Authenticity.FORGED

    def parse_notice(self, notice: RawNotice) -> Notice:
        body = fields.json_notice(notice.body)
        event = fields.text(body.get("event")) or ""
        charge, pix = fields.nested(body.get("charge")), fields.nested(body.get("pix"))
        return Notice(
            reference=fields.ident(charge.get("correlationID")),
            provider_id=_id(charge),
            state=_told(event, body),
            test=fields.nested(body.get("account")).get("environment") == "TESTING",
            event=event,
            end_to_end_id=_end_to_end_id(body, pix),
            dispute=_dispute(event, fields.nested(body.get("dispute"))),
        )

    def probe(self, account: Account) -> None:
        """Asks for a charge that can't exist: a good AppID is told so, a bad one 401."""
        self.fetch_charge(account, "", "no-such-charge")

    def fetch_public_keys(self, account: Account) -> tuple[str, ...]:
        """All that are published: during a rotation either may have signed."""
        published = http.ask(account, "GET", self.keys_path).get("public_keys")
        entries = published if isinstance(published, list) else []
        keys = [fields.text(fields.nested(entry).get("key"), limit=5000) for entry in entries]
        good = tuple(key for key in keys if key and _key(key))
        if not good:
            raise BadGatewayAnswer("the answer has no RSA key")
        return good


def _headers(account: Account) -> dict[str, str]:
    return {"Authorization": account.credentials["app_id"]}


def _path(reference: str) -> str:
    return f"/api/v1/charge/{quote(reference, safe='')}"


def _id(charge: dict[str, Any]) -> str | None:
    return fields.ident(charge.get("transactionID")) or fields.ident(charge.get("identifier"))


def _check_same(charge: dict[str, Any], reference: str) -> None:
    if charge.get("correlationID") != reference:
        raise BadGatewayAnswer("the answer is about another charge")


def _state(charge: dict[str, Any], pix: dict[str, Any], provider_id: str) -> ChargeState:
    """pix: the transfer, when the notice tells of it; what was transferred counts before what was asked."""
    word = fields.text(charge.get("status")) or ""
    amount = charge.get("value") if pix.get("value") is None else pix["value"]
    return ChargeState(
        status=_STATUSES.get(word, Status.PENDING),
        provider_id=_id(charge) or provider_id,
        amount_cents=fields.cents(amount),
        paid_at=fields.when(charge.get("paidAt") or pix.get("time")),
        end_to_end_id=fields.ident(pix.get("endToEndId")),
        raw_status=word,
    )


def _told(event: str, body: dict[str, Any]) -> ChargeState | None:
    """What a notice says of a sale, when event and content say the same; else None, and the core asks."""
    charge, pix = fields.nested(body.get("charge")), fields.nested(body.get("pix"))
    # `OPENPIX:`, `woovi:` and nothing are all seen before the same names.
    name = event.rpartition(":")[2]
    if name in _EVENTS:
        state = _state(charge, pix, "")
        return state if charge and state.status == _EVENTS[name] else None
    if name == "TRANSACTION_REFUND_RECEIVED":
        return _whole_refund(pix, charge, charge)
    if name == "PIX_TRANSACTION_REFUND_SENT_CONFIRMED":
        original = fields.nested(body.get("originalTransaction"))
        return _whole_refund(fields.nested(body.get("refundTransaction")), original, charge)
    return None


def _whole_refund(refund: dict[str, Any], paid: dict[str, Any], charge: dict[str, Any]) -> ChargeState | None:
    """None for a part of the money: the sale still stands."""
    amount = fields.cents(refund.get("value"))
    if refund.get("partial") is not False or amount is None or amount != fields.cents(paid.get("value")):
        return None
    return ChargeState(
        status=Status.REFUNDED,
        provider_id=_id(charge) or "",
        amount_cents=amount,
        end_to_end_id=fields.ident(paid.get("endToEndId")),
        raw_status=fields.text(refund.get("status")) or "",
    )


def _dispute(event: str, told: dict[str, Any]) -> Dispute | None:
    """It names the transfer alone, and the amount in one of its two kinds only."""
    state = _DISPUTES.get(event.rpartition(":")[2])
    if state is None:
        return None
    number = fields.ident(told.get("id")) or fields.ident(told.get("endToEndId")) or ""
    reason = fields.text(told.get("disputeReason")) or ""
    return Dispute(number, state, fields.cents(told.get("value")), reason=reason)


def _end_to_end_id(body: dict[str, Any], pix: dict[str, Any]) -> str | None:
    """Of the customer's transfer, wherever this kind of notice keeps it."""
    found = (pix, fields.nested(body.get("originalTransaction")), fields.nested(body.get("dispute")))
    ids = (fields.ident(part.get("endToEndId")) for part in found)
    return next((one for one in ids if one and not one.startswith("D")), None)  # D is a return's own id


def _signature(notice: RawNotice) -> bytes:
    try:
        return base64.b64decode(notice.headers.get("x-webhook-signature", ""), validate=True)
    except (binascii.Error, ValueError):
        return b""


@lru_cache(maxsize=64)
def _key(pem: str) -> RSAPublicKey | None:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, RSAPublicKey) else None


def _signed_by(key: RSAPublicKey, signature: bytes, body: bytes) -> bool:
    try:
        key.verify(signature, body, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


gateway = Woovi()
