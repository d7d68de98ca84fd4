"""Stripe as its SDKs know it. The product's base URL is `fake.url`.

Kept on purpose: bodies are forms; an Idempotency-Key with another form is refused; amounts are whole cents of `brl`; a
code comes in `next_action`; notices go to the account's endpoint, signed where it has a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from tests.world.bank import Charge, Refund, br_code
from tests.world.calls import Call, Refused
from tests.world.gateway import FakeGateway
from tests.world.notices import Notice
from tests.world.server import route


class FakeStripe(FakeGateway):
    """charges: {"pi_…": Charge}. endpoints: {key: (address, signing secret or "")}."""

    kind = "stripe"

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: dict[str, tuple[str, str]] = {}
        self._keys: dict[tuple[str, str], tuple[dict[str, str], Any]] = {}

    def open_account(self, number: int) -> dict[str, str]:
        """Without a signing secret, which the seller gets only once our address is known there."""
        self.endpoints[f"stripe-key-{number}"] = "", ""
        return {"secret_key": f"stripe-key-{number}"}

    def connect(self, credentials: dict[str, str], url: str) -> None:
        self.endpoints[credentials["secret_key"]] = url, credentials.get("webhook_signing_secret", "")

    def pay(self, provider_id: str, notices: int = 1, *, amount: int | None = None) -> list[Notice]:
        with self.lock:
            charge = self.charges[provider_id]
            charge.pay(amount)
        self.touch()
        return self.send_notice(charge, "payment_intent.succeeded", copies=notices)

    def send_notice(self, charge: Charge, event: str, *, copies: int = 1, **changes: Any) -> list[Notice]:
        url, secret = self.endpoints[charge.account]
        about = self._seen(charge) | changes
        body = {"id": f"evt_{secrets.token_hex(8)}", "object": "event", "livemode": True, "type": event}
        content = json.dumps(body | {"data": {"object": about}}).encode()
        headers = {"Content-Type": "application/json"} | (signature(secret, content) if secret else {})
        return self.post(url, content, headers, copies=copies) if url else []

    def hint(self, charge: Charge) -> object:
        return self.send_notice(
            charge, "payment_intent.succeeded", status="succeeded", amount_received=charge.cents, next_action=None
        )

    # The API

    def check(self, call: Call) -> None:
        if _account(call) not in self.endpoints:
            raise Refused(401, _problem("invalid_request_error", "Invalid API Key provided"))
        if call.body and not call.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            raise Refused(400, _problem("invalid_request_error", "Invalid request (check that your body is a form)"))

    def _once(self, call: Call, work: Any) -> Any:
        key = _account(call), call.headers.get("idempotency-key", "")
        known = self._keys.get(key) if key[1] else None
        if known and known[0] != call.form:
            raise Refused(400, _problem("idempotency_error", "Keys can only be used with the same parameters"))
        made = known[1] if known else work()
        self._keys[key] = call.form, made
        return made

    @route("POST", "/v1/payment_intents")
    def create(self, call: Call) -> dict[str, Any]:
        return self._seen(self._once(call, lambda: self._create(_account(call), call.form)))

    def _create(self, account: str, asked: dict[str, str]) -> Charge:
        _validate(asked)
        reference = asked.get("metadata[reference]", "")
        charge = Charge(account, int(asked["amount"]), "", reference, id=f"pi_{secrets.token_hex(10)}")
        charge.pix_code = br_code(f"pix.stripe.example/qr/v2/{uuid.uuid4()}", charge.cents)
        self.charges[charge.id] = charge
        return charge

    @route("GET", "/v1/payment_intents")
    def list(self, call: Call) -> dict[str, Any]:
        return _list([self._seen(charge) for charge in self._mine(call)][: int(call.query.get("limit", 10))])

    @route("GET", "/v1/payment_intents/search")
    def search(self, call: Call) -> dict[str, Any]:
        wanted = call.query.get("query", "")
        return _list([self._seen(charge) for charge in self._mine(call) if f"'{charge.reference}'" in wanted])

    @route("GET", "/v1/payment_intents/{provider_id}")
    def show(self, call: Call, provider_id: str) -> dict[str, Any]:
        return self._seen(self._find(call, provider_id))

    @route("POST", "/v1/payment_intents/{provider_id}/cancel")
    def cancel(self, call: Call, provider_id: str) -> dict[str, Any]:
        charge = self._find(call, provider_id)
        if charge.paid:
            raise Refused(400, _problem("invalid_request_error", "This PaymentIntent has a status of succeeded"))
        charge.ended = "cancelled"
        return self._seen(charge)

    @route("GET", "/v1/refunds")
    def list_refunds(self, call: Call) -> dict[str, Any]:
        charge = self._find(call, call.query.get("payment_intent", ""))
        return _list([_refund(refund) for refund in charge.refunds])

    @route("POST", "/v1/refunds")
    def refund(self, call: Call) -> dict[str, Any]:
        return _refund(self._once(call, lambda: self._refund(call)))

    def _refund(self, call: Call) -> Refund:
        charge = self._find(call, call.form.get("payment_intent", ""))
        left = (charge.paid_cents or 0) - charge.refunded_cents
        cents = int(call.form.get("amount", left))
        if not 0 < cents <= left:
            raise Refused(400, _problem("invalid_request_error", "Refund amount is greater than unrefunded amount"))
        made = Refund(call.form.get("metadata[refund]", ""), cents, datetime.now(UTC), done=True)
        charge.refunds.append(made)
        return made

    def _mine(self, call: Call) -> list[Charge]:
        return [charge for charge in self.charges.values() if charge.account == _account(call)]

    def _find(self, call: Call, provider_id: str) -> Charge:
        charge = self.charges.get(provider_id)
        if charge is None or charge.account != _account(call):
            raise Refused(404, _problem("invalid_request_error", "No such payment_intent"))
        return charge

    def _seen(self, charge: Charge) -> dict[str, Any]:
        code = {"type": "pix_display_qr_code", "pix_display_qr_code": {"data": charge.pix_code}}
        whole = charge.paid and charge.refunded_cents == charge.paid_cents
        latest = {"amount_refunded": charge.refunded_cents, "refunded": whole}
        status = "succeeded" if charge.paid else "canceled" if charge.ended else "requires_action"
        return {
            "id": charge.id,
            "object": "payment_intent",
            "amount": charge.cents,
            "amount_received": charge.paid_cents or 0,
            "currency": "brl",
            "livemode": True,
            "latest_charge": latest if charge.paid else None,
            "metadata": {"reference": charge.reference} if charge.reference else {},
            "next_action": code if status == "requires_action" else None,
            "payment_method_types": ["pix"],
            "status": status,
        }


def signature(secret: str, body: bytes, at: int | None = None) -> dict[str, str]:
    at = int(time.time()) if at is None else at
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={at},v1={mac}"}


_NEEDED = {
    "currency": "brl",
    "confirm": "true",
    "payment_method_types[0]": "pix",
    "payment_method_data[type]": "pix",
}


def _validate(asked: dict[str, str]) -> None:
    if not asked.get("amount", "").isdecimal() or int(asked["amount"]) < 50:
        raise Refused(400, _problem("invalid_request_error", "Invalid integer: amount"))
    for name, value in _NEEDED.items():
        if asked.get(name) != value:
            raise Refused(400, _problem("invalid_request_error", f"Invalid {name}"))
    if not 60 <= int(asked.get("payment_method_options[pix][expires_after_seconds]", 14400)) <= 1_209_600:
        raise Refused(400, _problem("invalid_request_error", "Invalid expires_after_seconds"))


def _refund(refund: Refund) -> dict[str, Any]:
    return {"id": "re_1", "amount": refund.cents, "status": "succeeded", "metadata": {"refund": refund.reference}}


def _list(data: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "has_more": False, "data": data}


def _problem(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message}}


def _account(call: Call) -> str:
    kind, _, key = call.headers.get("authorization", "").partition(" ")
    return key if kind == "Bearer" else ""


FAKE = FakeStripe
