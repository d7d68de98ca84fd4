"""Asaas as its documentation knows it. The product's base URL is `fake.url` (it ends in /v3).

Kept on purpose: amounts are numbers in reais; a charge wants a customer that was made before; its code is another call's;
nothing is idempotent; notices go to the account's webhooks with a header that is always the same, and only 200 counts.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime
from itertools import count
from typing import Any

from tests.world.bank import Charge, Refund, br_code
from tests.world.calls import Call, Refused
from tests.world.gateway import FakeGateway
from tests.world.notices import Notice
from tests.world.server import route


class FakeAsaas(FakeGateway):
    """charges: {"pay_…": Charge}. webhooks: {account: its webhooks, as told}."""

    kind = "asaas"
    base = "/v3"

    def __init__(self) -> None:
        super().__init__()
        self.customers: dict[str, dict[str, Any]] = {}
        self.webhooks: dict[str, list[dict[str, Any]]] = {}
        self._tokens: dict[str, str] = {}
        self._refunds: dict[str, list[dict[str, Any]]] = {}
        self._numbers = count(642487216120)

    def open_account(self, number: int) -> dict[str, str]:
        key, token = f"$aact_key-{number}", f"asaas-notices-of-account-{number:09d}"
        self._tokens[key] = token
        self.webhooks[key] = []
        return {"api_key": key, "webhook_token": token}

    def connect(self, credentials: dict[str, str], url: str) -> None:
        hook = {"id": str(uuid.uuid4()), "url": url, "enabled": True, "interrupted": False}
        self.webhooks[credentials["api_key"]].append(hook | {"authToken": credentials["webhook_token"]})

    def pay(self, provider_id: str, notices: int = 1, *, amount: int | None = None) -> list[Notice]:
        with self.lock:
            charge = self.charges[provider_id]
            charge.pay(amount)
        self.touch()
        return self.send_notice(charge, "PAYMENT_RECEIVED", copies=notices)

    def send_notice(self, charge: Charge, event: str, *, copies: int = 1, **changes: Any) -> list[Notice]:
        body = {
            "id": f"evt_{uuid.uuid4().hex}&{next(self._numbers)}",
            "event": event,
            "dateCreated": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            "payment": self._seen(charge) | changes,
        }
        sent = []
        for hook in self.webhooks[charge.account]:
            if hook["enabled"] and not hook["interrupted"]:
                headers = {"Content-Type": "application/json", "asaas-access-token": hook.get("authToken") or ""}
                sent += self.post(hook["url"], json.dumps(body).encode(), headers, copies=copies)
        return sent

    def accepted(self, answer: int | str) -> bool:
        return answer == 200

    def hint(self, charge: Charge) -> object:
        return self.send_notice(charge, "PAYMENT_RECEIVED", status="RECEIVED")

    # The API

    def check(self, call: Call) -> None:
        if not call.headers.get("user-agent"):
            raise _refused("invalid_user_agent", "Informe um User-Agent.")
        if call.headers.get("access_token", "") not in self._tokens:
            raise Refused(401, _problem("invalid_access_token", "A chave de API fornecida é inválida"))

    @route("POST", "/customers")
    def add_customer(self, call: Call) -> dict[str, Any]:
        asked = call.json if isinstance(call.json, dict) else {}
        document = str(asked.get("cpfCnpj") or "")
        if not asked.get("name") or len(document) not in (11, 14) or not document.isalnum():
            raise _refused("invalid_cpfCnpj", "O CPF/CNPJ informado é inválido.")
        made = {"object": "customer", "id": f"cus_{next(self._numbers)}", **asked}
        self.customers[made["id"]] = made | {"account": call.headers["access_token"]}
        return made

    @route("POST", "/payments")
    def create(self, call: Call) -> dict[str, Any]:
        asked, key = call.json if isinstance(call.json, dict) else {}, call.headers["access_token"]
        if self.customers.get(asked.get("customer") or "", {}).get("account") != key:
            raise _refused("invalid_customer", "Customer inválido ou não informado.")
        _validate(asked)
        charge = Charge(key, round(asked["value"] * 100), "", asked.get("externalReference") or "")
        charge.id = f"pay_{next(self._numbers)}"
        charge.pix_code = br_code(f"pix.asaas.example/qr/cobv/{uuid.uuid4()}", charge.cents)
        self.charges[charge.id] = charge
        return self._seen(charge)

    @route("GET", "/payments/{provider_id}/pixQrCode")
    def code(self, call: Call, provider_id: str) -> dict[str, Any]:
        charge = self._find(call, provider_id)
        return {"encodedImage": "iVBORw0KGgo=", "payload": charge.pix_code, "expirationDate": "2027-01-01 23:59:59"}

    @route("GET", "/payments")
    def list(self, call: Call) -> dict[str, Any]:
        wanted = call.query.get("externalReference")
        mine = [charge for charge in self.charges.values() if charge.account == call.headers["access_token"]]
        found = [self._seen(charge) for charge in mine if wanted in (None, charge.reference)]
        limit, offset = int(call.query.get("limit", 10)), int(call.query.get("offset", 0))
        more = len(found) > offset + limit
        return {"object": "list", "hasMore": more, "totalCount": len(found), "data": found[offset : offset + limit]}

    @route("GET", "/payments/{provider_id}")
    def show(self, call: Call, provider_id: str) -> dict[str, Any]:
        return self._seen(self._find(call, provider_id))

    @route("DELETE", "/payments/{provider_id}")
    def delete(self, call: Call, provider_id: str) -> dict[str, Any]:
        charge = self._find(call, provider_id)
        if charge.paid:
            raise _refused("invalid_action", "Só é possível remover cobranças pendentes ou vencidas.")
        charge.ended = "cancelled"
        return {"deleted": True, "id": charge.id}

    @route("GET", "/payments/{provider_id}/refunds")
    def refunds(self, call: Call, provider_id: str) -> dict[str, Any]:
        charge = self._find(call, provider_id)
        return {"object": "list", "data": self._refunds.get(charge.id, [])}

    @route("POST", "/payments/{provider_id}/refund")
    def refund(self, call: Call, provider_id: str) -> dict[str, Any]:
        charge, asked = self._find(call, provider_id), call.json or {}
        left = (charge.paid_cents or 0) - charge.refunded_cents
        cents = round(asked["value"] * 100) if "value" in asked else left
        if not 0 < cents <= left:
            raise _refused("invalid_action", "O valor do estorno é maior que o valor disponível.")
        charge.refunds.append(Refund(str(next(self._numbers)), cents, datetime.now(UTC), done=True))
        told = {"status": "DONE", "value": cents / 100, "description": asked.get("description")}
        self._refunds.setdefault(charge.id, []).append(told)
        return self._seen(charge)

    @route("GET", "/webhooks")
    def list_webhooks(self, call: Call) -> dict[str, Any]:
        hooks = self.webhooks[call.headers["access_token"]]
        return {"object": "list", "data": [{**hook, "authToken": None} for hook in hooks]}

    @route("POST", "/webhooks")
    def add_webhook(self, call: Call) -> dict[str, Any]:
        asked = call.json or {}
        if not asked.get("url") or not asked.get("events") or asked.get("sendType") not in _SEND_TYPES:
            raise _refused("invalid_object", "Informe url, sendType e events.")
        if asked.get("authToken") and not 32 <= len(asked["authToken"]) <= 255:
            raise _refused("invalid_authToken", "O token deve ter de 32 a 255 caracteres.")
        hook = {**asked, "id": str(uuid.uuid4())}
        self.webhooks[call.headers["access_token"]].append(hook)
        return hook

    @route("PUT", "/webhooks/{hook_id}")
    def change_webhook(self, call: Call, hook_id: str) -> dict[str, Any]:
        for hook in self.webhooks[call.headers["access_token"]]:
            if hook["id"] == hook_id:
                hook.update(call.json or {})
                return hook
        raise Refused(404, _problem("not_found", "Webhook não encontrado"))

    def _find(self, call: Call, provider_id: str) -> Charge:
        charge = self.charges.get(provider_id)
        if charge is None or charge.account != call.headers["access_token"]:
            raise Refused(404, _problem("not_found", "Cobrança não encontrada"))
        return charge

    def _seen(self, charge: Charge) -> dict[str, Any]:
        return {
            "object": "payment",
            "id": charge.id,
            "value": (charge.cents if charge.paid_cents is None else charge.paid_cents) / 100,
            "netValue": (charge.cents if charge.paid_cents is None else charge.paid_cents) / 100,
            "billingType": "PIX",
            "status": _status(charge),
            "externalReference": charge.reference or None,
            "deleted": charge.ended == "cancelled",
            "refunds": self._refunds.get(charge.id),
        }


_SEND_TYPES = ("SEQUENTIALLY", "NON_SEQUENTIALLY")


def _validate(asked: dict[str, Any]) -> None:
    value = asked.get("value")
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0 or round(value, 2) != value:
        raise _refused("invalid_value", "O valor da cobrança é inválido.")
    if asked.get("billingType") != "PIX":
        raise _refused("invalid_billingType", "O campo billingType deve ser informado.")
    try:
        due = date.fromisoformat(asked["dueDate"])
    except (KeyError, TypeError, ValueError):
        raise _refused("invalid_dueDate", "O campo dueDate deve ser informado.") from None
    if (datetime.now(UTC).date() - due).days > 1:
        raise _refused("invalid_dueDate", "Não é permitido data de vencimento inferior a hoje.")


def _status(charge: Charge) -> str:
    if charge.paid and charge.refunded_cents == charge.paid_cents:
        return "REFUNDED"
    if charge.paid:
        return "RECEIVED"
    return "OVERDUE" if charge.ended == "expired" else "PENDING"


def _problem(code: str, description: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "description": description}]}


def _refused(code: str, description: str) -> Refused:
    return Refused(400, _problem(code, description))


FAKE = FakeAsaas
