"""Mercado Pago as its documentation and its SDK know it. The product's base URL is `fake.url`.

Kept on purpose: amounts are numbers in reais; ids are numbers, texts in notices; a create without `X-Idempotency-Key` is
refused, with the same key it is the same payment, with the same key and another body a conflict; notices name a payment
and carry no status; they are signed over the id in their address, not over their body.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from tests.world.bank import Charge, Refund, br_code
from tests.world.calls import Call, Refused
from tests.world.faults import Reply
from tests.world.gateway import FakeGateway
from tests.world.notices import Notice
from tests.world.server import route


class FakeMercadoPago(FakeGateway):
    """charges: {id: Charge}, ids as texts."""

    kind = "mercadopago"
    tells_of_creation = False  # the real one does, which tests that count notices can do without

    def __init__(self) -> None:
        super().__init__()
        self._accounts: dict[str, str] = {}
        self._urls: dict[str, str] = {}
        self._keys: dict[tuple[str, str], tuple[bytes, Charge]] = {}
        self._numbers = count(1310990000)

    def open_account(self, number: int) -> dict[str, str]:
        token, secret = f"APP_USR-{number}", f"mercadopago-signing-{number}"
        self._accounts[token] = secret
        return {"access_token": token, "webhook_signing_secret": secret}

    def connect(self, credentials: dict[str, str], url: str) -> None:
        """What a seller does in the panel, for charges without an address of their own."""
        self._urls[credentials["access_token"]] = url

    def pay(self, provider_id: str, notices: int = 1, *, amount: int | None = None) -> list[Notice]:
        with self.lock:
            charge = self.charges[provider_id]
            charge.pay(amount)
        self.touch()
        return self.send_notice(charge, copies=notices)

    def send_notice(
        self, charge: Charge, *, action: str = "payment.updated", signed: bool = True, copies: int = 1
    ) -> list[Notice]:
        """To the charge's own address, or the account's. It says nothing but that something happened."""
        url = charge.notice_url or self._urls.get(charge.account, "")
        if not url:
            return []
        body = {
            "id": next(self._numbers),
            "live_mode": True,
            "type": "payment",
            "date_created": _time(datetime.now(UTC)),
            "user_id": 44444,
            "api_version": "v1",
            "action": action,
            "data": {"id": charge.id},
        }
        target = f"{url}{'&' if '?' in url else '?'}data.id={charge.id}&type=payment"
        headers = {"Content-Type": "application/json", **(self._signature(charge) if signed else {})}
        return self.post(target, json.dumps(body).encode(), headers, copies=copies)

    def _signature(self, charge: Charge) -> dict[str, str]:
        request, at = str(uuid.uuid4()), str(int(datetime.now(UTC).timestamp() * 1000))
        return signature(self._accounts[charge.account], charge.id, request, at)

    def hint(self, charge: Charge) -> object:
        return self.send_notice(charge)

    # The API

    def check(self, call: Call) -> None:
        if _token(call) not in self._accounts:
            raise Refused(401, _problem(401, "unauthorized", "invalid_token"))

    @route("POST", "/v1/payments")
    def create(self, call: Call) -> Reply:
        key = call.headers.get("x-idempotency-key", "")
        if not 1 <= len(key) <= 64:
            raise Refused(400, _problem(400, "bad_request", "Header X-Idempotency-Key can't be null"))
        known = self._keys.get((_token(call), key))
        if known and known[0] != _essence(call.json):
            raise Refused(409, _problem(409, "conflict", "idempotency key used with another request"))
        charge = known[1] if known else self._create(call)
        self._keys[_token(call), key] = _essence(call.json), charge
        return Reply(self._seen(charge), 201)

    def _create(self, call: Call) -> Charge:
        asked = call.json
        _validate(asked)
        charge = Charge(
            _token(call), round(asked["transaction_amount"] * 100), "", asked.get("external_reference") or ""
        )
        charge.id, charge.notice_url = str(next(self._numbers)), asked.get("notification_url") or ""
        charge.pix_code = br_code(f"pix.mercadopago.example/qr/v2/{uuid.uuid4().hex}", charge.cents)
        charge.payer = asked["payer"]
        self.charges[charge.id] = charge
        if self.tells_of_creation:
            self.send_notice(charge, action="payment.created")
        return charge

    @route("GET", "/v1/payments/search")
    def search(self, call: Call) -> dict[str, Any]:
        wanted = call.query.get("external_reference")
        mine = [charge for charge in self.charges.values() if charge.account == _token(call)]
        found = [charge for charge in mine if wanted in (None, charge.reference)]
        limit, offset = int(call.query.get("limit", 30)), int(call.query.get("offset", 0))
        if call.query.get("criteria") == "desc":
            found.reverse()
        part = [self._seen(charge) for charge in found[offset : offset + limit]]
        return {"paging": {"total": len(found), "limit": limit, "offset": offset}, "results": part}

    @route("GET", "/v1/payments/{provider_id}")
    def show(self, call: Call, provider_id: str) -> dict[str, Any]:
        return self._seen(self._find(call, provider_id))

    @route("PUT", "/v1/payments/{provider_id}")
    def change(self, call: Call, provider_id: str) -> dict[str, Any]:
        charge = self._find(call, provider_id)
        if charge.paid or (call.json or {}).get("status") != "cancelled":
            raise Refused(400, _problem(400, "bad_request", "Invalid status for cancellation"))
        charge.ended = "cancelled"
        return self._seen(charge)

    @route("POST", "/v1/payments/{provider_id}/refunds")
    def refund(self, call: Call, provider_id: str) -> Reply:
        charge, key = self._find(call, provider_id), call.headers.get("x-idempotency-key", "")
        known = [refund for refund in charge.refunds if key and refund.reference == key]
        left = (charge.paid_cents or 0) - charge.refunded_cents
        cents = round((call.json or {}).get("amount", left / 100) * 100)
        if not known and not 0 < cents <= left:
            raise Refused(400, _problem(400, "bad_request", "Amount exceeds the refundable amount"))
        if not known:
            known = [Refund(key, cents, datetime.now(UTC), done=True)]
            charge.refunds += known
        return Reply({"id": 1, "payment_id": int(charge.id), "amount": known[0].cents / 100, "status": "approved"}, 201)

    def _find(self, call: Call, provider_id: str) -> Charge:
        charge = self.charges.get(provider_id)
        if charge is None or charge.account != _token(call):
            raise Refused(404, _problem(404, "not_found", "Payment not found"))
        return charge

    def _seen(self, charge: Charge) -> dict[str, Any]:
        status, detail = _status(charge)
        return {
            "id": int(charge.id),
            "date_created": _time(charge.created_at),
            "date_approved": _time(charge.paid_at) if charge.paid_at else None,
            "payment_method_id": "pix",
            "payment_type_id": "bank_transfer",
            "status": status,
            "status_detail": detail,
            "currency_id": "BRL",
            "live_mode": True,
            "external_reference": charge.reference or None,
            "transaction_amount": (charge.cents if charge.paid_cents is None else charge.paid_cents) / 100,
            "transaction_amount_refunded": charge.refunded_cents / 100,
            "fee_details": [],
            "point_of_interaction": {
                "type": "PIX",
                "transaction_data": {"qr_code": charge.pix_code, "qr_code_base64": "iVBORw0KGgo=", "ticket_url": "x"},
            },
        }


def signature(secret: str, about: str, request: str, at: str) -> dict[str, str]:
    """The headers of a notice whose address says `data.id=about`."""
    manifest = f"id:{about};request-id:{request};ts:{at};"
    mac = hmac.new(secret.encode(), manifest.encode(), hashlib.sha256).hexdigest()
    return {"x-signature": f"ts={at},v1={mac}", "x-request-id": request}


def _validate(asked: Any) -> None:
    amount = asked.get("transaction_amount") if isinstance(asked, dict) else None
    if not isinstance(amount, int | float) or isinstance(amount, bool) or amount <= 0 or round(amount, 2) != amount:
        raise Refused(400, _problem(400, "bad_request", "Invalid transaction_amount"))
    if asked.get("payment_method_id") != "pix":
        raise Refused(400, _problem(400, "bad_request", "payment_method_id not found"))
    payer = asked.get("payer")
    if not isinstance(payer, Mapping) or "@" not in str(payer.get("email") or ""):
        raise Refused(400, _problem(400, "bad_request", "payer.email must be a valid email"))
    _validate_end(asked.get("date_of_expiration"))


def _validate_end(written: Any) -> None:
    try:
        ends = datetime.fromisoformat(written)
        good = timedelta(minutes=30) <= ends - datetime.now(UTC) <= timedelta(days=30)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise Refused(400, _problem(400, "bad_request", "Invalid date_of_expiration"))


def _essence(asked: Any) -> bytes:
    """What has to be the same under one key; the end of the code moves with the clock."""
    return json.dumps({**(asked or {}), "date_of_expiration": None}, sort_keys=True).encode()


def _problem(status: int, error: str, message: str) -> dict[str, Any]:
    return {"message": message, "error": error, "status": status, "cause": [{"code": 1, "description": message}]}


def _token(call: Call) -> str:
    kind, _, token = call.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def _status(charge: Charge) -> tuple[str, str]:
    if charge.paid and charge.refunded_cents == charge.paid_cents:
        return "refunded", "refunded"
    if charge.paid:
        return "approved", "partially_refunded" if charge.refunds else "accredited"
    if charge.ended:
        return "cancelled", "expired" if charge.ended == "expired" else "by_collector"
    return "pending", "pending_waiting_transfer"


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


FAKE = FakeMercadoPago
