"""AbacatePay as its OpenAPI description (version 2) knows it. The product's base URL is `fake.url` (it ends in /v2).

Kept on purpose: fields that it does not know are refused; a customer is told whole or not at all; a charge is listed with
its amount and checked without; notices name the payment (`char_…`), not the charge (`pix_char_…`), keep the status PAID
when money went back, carry the webhook's secret in their address and a signature by a key that everybody knows.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

from tests.world.bank import PNG_URI, Charge, Refund, br_code
from tests.world.calls import Call, Refused
from tests.world.gateway import FakeGateway
from tests.world.notices import Notice
from tests.world.server import route

KNOWN = {"amount", "expiresIn", "description", "customer", "externalId", "metadata", "utm"}


class FakeAbacatePay(FakeGateway):
    """charges: {"pix_char_…": Charge}. webhooks: {key: [{endpoint, secret, events}]}."""

    kind = "abacatepay"
    base = "/v2"

    def __init__(self) -> None:
        super().__init__()
        self.webhooks: dict[str, list[dict[str, Any]]] = {}
        self._numbers = count(1)

    def open_account(self, number: int) -> dict[str, str]:
        key = f"abc_prod_key-{number}"
        self.webhooks[key] = []
        return {"api_key": key, "webhook_secret": f"abacate-notices-{number}"}

    def connect(self, credentials: dict[str, str], url: str) -> None:
        self.webhooks[credentials["api_key"]].append({"endpoint": url, "secret": credentials["webhook_secret"]})

    def pay(self, provider_id: str, notices: int = 1, *, amount: int | None = None) -> list[Notice]:
        with self.lock:
            charge = self.charges[provider_id]
            charge.pay(amount)
        self.touch()
        return self.send_notice(charge, "transparent.completed", copies=notices)

    def send_notice(self, charge: Charge, event: str, *, copies: int = 1, dev: bool = False) -> list[Notice]:
        told = {
            "id": f"char_{charge.id[-12:]}",
            "externalId": charge.reference or None,
            "amount": charge.cents,
            "paidAmount": charge.cents if charge.paid_cents is None else charge.paid_cents,
            "platformFee": 80,
            "status": "PAID",
            "methods": ["PIX"],
        }
        body = {"id": f"log_{next(self._numbers)}", "event": event, "apiVersion": 2, "devMode": dev}
        content = json.dumps(body | {"data": {"transparent": told, "customer": None}}).encode()
        headers = {"Content-Type": "application/json", "X-Webhook-Signature": "bm90IGxvb2tlZCBhdA=="}
        sent = []
        for hook in self.webhooks[charge.account]:
            sent += self.post(f"{hook['endpoint']}?webhookSecret={hook['secret']}", content, headers, copies=copies)
        return sent

    def hint(self, charge: Charge) -> object:
        return self.send_notice(charge, "transparent.completed")

    # The API

    def check(self, call: Call) -> None:
        if _key(call) not in self.webhooks:
            raise Refused(401, {"error": "Token de autenticação inválido ou ausente."})

    @route("POST", "/transparents/create")
    def create(self, call: Call) -> dict[str, Any]:
        asked = call.json if isinstance(call.json, dict) else {}
        data = asked.get("data")
        if asked.get("method") != "PIX" or not isinstance(data, dict):
            raise _refused("method e data são obrigatórios")
        _validate(data)
        key, reference = _key(call), data.get("externalId") or ""
        known = [c for c in self.charges.values() if reference and (c.account, c.reference) == (key, reference)]
        return _told(self._seen(known[0] if known else self._create(key, data, reference)))

    def _create(self, key: str, data: dict[str, Any], reference: str) -> Charge:
        charge = Charge(key, data["amount"], "", reference, id=f"pix_char_{secrets.token_hex(12)}")
        charge.pix_code = br_code(f"pix.abacatepay.example/qr/{uuid.uuid4()}", charge.cents)
        charge.payer = data.get("metadata")
        self.charges[charge.id] = charge
        return charge

    @route("GET", "/transparents/list")
    def list(self, call: Call) -> dict[str, Any]:
        mine = [charge for charge in self.charges.values() if charge.account == _key(call)]
        found = [self._seen(charge) for charge in mine if call.query.get("id") in (None, charge.id)]
        return _told(found) | {"pagination": {"hasMore": False, "next": None, "before": None}}

    @route("GET", "/transparents/check")
    def status(self, call: Call) -> dict[str, Any]:
        seen = self._seen(self._find(call, call.query.get("id", "")))
        return _told({name: seen[name] for name in ("id", "status", "expiresAt")})

    @route("POST", "/transparents/refund")
    def refund(self, call: Call) -> dict[str, Any]:
        charge = self._find(call, str((call.json or {}).get("id")))
        if charge.refunds:
            raise _refused("Esta cobrança já foi reembolsada.")
        if not charge.paid:
            raise _refused("TRANSACTION_NOT_REFUNDABLE")
        charge.refunds.append(Refund(charge.id, charge.paid_cents or 0, datetime.now(UTC), done=True))
        self.send_notice(charge, "transparent.refunded")
        return _told({"id": f"tran_{charge.id[-8:]}", "status": "COMPLETE", "amount": charge.paid_cents})

    @route("GET", "/webhooks/list")
    def list_webhooks(self, call: Call) -> dict[str, Any]:
        return _told([{"endpoint": hook["endpoint"]} for hook in self.webhooks[_key(call)]])

    @route("POST", "/webhooks/create")
    def add_webhook(self, call: Call) -> dict[str, Any]:
        asked = call.json if isinstance(call.json, dict) else {}
        if set(asked) != {"name", "endpoint", "secret", "events"} or not asked["events"]:
            raise _refused("name, endpoint, secret e events são obrigatórios")
        self.webhooks[_key(call)].append(asked)
        return _told({"id": f"webh_{next(self._numbers)}", "endpoint": asked["endpoint"]})

    def _find(self, call: Call, provider_id: str) -> Charge:
        charge = self.charges.get(provider_id)
        if charge is None or charge.account != _key(call):
            raise Refused(404, {"data": None, "success": False, "error": "TRANSACTION_NOT_FOUND"})
        return charge

    def _seen(self, charge: Charge) -> dict[str, Any]:
        return {
            "id": charge.id,
            "amount": charge.cents if charge.paid_cents is None else charge.paid_cents,
            "status": _status(charge),
            "devMode": False,
            "brCode": charge.pix_code,
            "brCodeBase64": PNG_URI,
            "platformFee": 80,
            "expiresAt": f"{charge.created_at:%Y-%m-%dT%H:%M:%S}.000Z",
            "metadata": charge.payer or {},
        }


def _validate(data: dict[str, Any]) -> None:
    amount, customer = data.get("amount"), data.get("customer")
    if not isinstance(amount, int) or isinstance(amount, bool) or amount < 1:
        raise _refused("amount inválido")
    if unknown := set(data) - KNOWN:
        raise _refused(f"campos desconhecidos: {sorted(unknown)}")
    if customer is not None and not (
        isinstance(customer, Mapping) and all(customer.get(name) for name in ("name", "taxId", "email", "cellphone"))
    ):
        raise _refused("customer: todos os campos são obrigatórios")
    if len(data.get("description") or "") > 500:
        raise _refused("description: no máximo 500 caracteres")


def _told(data: Any) -> dict[str, Any]:
    return {"data": data, "success": True, "error": None}


def _refused(error: str) -> Refused:
    return Refused(400, {"data": None, "success": False, "error": error})


def _key(call: Call) -> str:
    kind, _, key = call.headers.get("authorization", "").partition(" ")
    return key if kind == "Bearer" else ""


def _status(charge: Charge) -> str:
    if charge.refunds:
        return "REFUNDED"
    if charge.paid:
        return "PAID"
    return (charge.ended or "pending").upper()


FAKE = FakeAbacatePay
