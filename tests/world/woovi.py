"""Woovi (OpenPix) as its documentation knows it. The product's base URL is `fake.url`.

Kept on purpose: the app id goes into Authorization raw (with `Bearer ` it is refused); `return_existing=true` makes
creating idempotent by correlationID, without it a second one is refused; notices go to the account's webhooks, are
signed with the company's own RSA key and carry the older HMAC header too; a webhook registered through the API gets a
test call without any charge in it. The keys are at `GET /api/v1/webhook/public-keys`, open to all.
Texts of refusals are ours where the documentation has none.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.world.bank import PNG, Charge, Refund, br_code, end_to_end_id
from tests.world.calls import Call, Refused
from tests.world.faults import Reply
from tests.world.gateway import FakeGateway
from tests.world.notices import Notice
from tests.world.server import route
from tests.world.woovi_shapes import EVENTS, Webhook, charge_shape, notice_body, refund_shape, webhook_shape
from tests.world.woovi_signature import Keys, legacy_signature

Signature = Literal["right", "wrong", "missing", "legacy"]
COMPLETED = "OPENPIX:CHARGE_COMPLETED"


class FakeWoovi(FakeGateway):
    """charges: {(app id, correlationID): Charge}; a Charge's `reference` is the correlationID, its `id` the txid.

    Where a method takes a charge, its correlationID or txid does as well.
    """

    kind = "woovi"
    tries = 8

    def __init__(self, *, key_size: int = 2048) -> None:
        super().__init__()
        self.webhooks: list[Webhook] = []
        self.keys = Keys(key_size)
        self._accounts: dict[str, str] = {}

    # The seller's side

    def open_account(self, number: int) -> dict[str, str]:
        self.add_account(f"woovi-token-{number}")
        return {"app_id": f"woovi-token-{number}"}

    def connect(self, credentials: dict[str, str], url: str) -> None:
        self.set_webhook(credentials["app_id"], url)

    def add_account(self, app_id: str, environment: str = "PRODUCTION") -> None:
        """environment: PRODUCTION or TESTING, as notices say it."""
        self._accounts[app_id] = environment

    def revoke(self, app_id: str) -> None:
        del self._accounts[app_id]

    def set_webhook(
        self, app_id: str, url: str, *, authorization: str | None = None, events: tuple[str, ...] = (COMPLETED,)
    ) -> list[Webhook]:
        """What a seller does in the panel: these events of the account go to this URL, and no others."""
        made = [Webhook(app_id, event, url, "painel", authorization) for event in events]
        with self.lock:
            self.webhooks = [hook for hook in self.webhooks if hook.account != app_id] + made
        return made

    # The buyer's and the bank's side

    def pay(
        self,
        charge: str | Charge,
        notices: int = 1,
        *,
        amount: int | None = None,
        hold: bool = False,
        signature: Signature = "right",
        prefix: str = "OPENPIX",
        environment: str | None = None,
    ) -> list[Notice]:
        """The buyer pays: the ledger says so from here on, and so many notices go to each webhook for it.

        amount: cents, where they differ from what was asked; hold: the notices wait for `release`;
        prefix: "OPENPIX" or "woovi"; environment: another than the account's.
        """
        with self.lock:
            charge = self._charge(charge)
            charge.pay(amount)
        self.touch()
        options = {"copies": notices, "hold": hold, "signature": signature, "environment": environment}
        return [
            notice
            for event in ("CHARGE_COMPLETED", "TRANSACTION_RECEIVED")
            for notice in self.send_notice(charge, f"{prefix}:{event}", **options)
        ]

    def expire(self, charge: str | Charge) -> list[Notice]:
        self._charge(charge).ended = "expired"
        return self.send_notice(charge, "OPENPIX:CHARGE_EXPIRED")

    def confirm_refund(self, charge: str | Charge) -> list[Notice]:
        """The refund asked for last reaches the buyer."""
        self._charge(charge).refunds[-1].done = True
        return self.send_notice(charge, "PIX_TRANSACTION_REFUND_SENT_CONFIRMED")

    def dispute(self, charge: str | Charge) -> list[Notice]:
        """The buyer's bank disputes the payment."""
        return self.send_notice(charge, "OPENPIX:DISPUTE_CREATED")

    def test_call(self, app_id: str) -> list[Notice]:
        """The call without a charge that a new webhook gets."""
        hooks = [hook for hook in self.webhooks if hook.account == app_id]
        return [notice for hook in hooks for notice in self._test(hook)]

    def send_notice(
        self,
        charge: str | Charge,
        event: str = COMPLETED,
        *,
        changes: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        signature: Signature = "right",
        environment: str | None = None,
        copies: int = 1,
        hold: bool = False,
    ) -> list[Notice]:
        """A notice about a charge to the account's webhooks for that event, true unless told otherwise.

        changes: over the charge's own fields; body: a whole other one (it is signed all the same).
        """
        charge = self._charge(charge)
        where = environment or self._accounts.get(charge.account, "PRODUCTION")
        content = body if body is not None else json.dumps(notice_body(charge, event, where, changes or {})).encode()
        sent = []
        for hook in self._hooks_for(charge.account, event):
            signed = self._headers(hook, content, signature) | dict(headers or {})
            sent += self.post(hook.url, content, signed, copies=copies, hold=hold)
        return sent

    def accepted(self, answer: int | str) -> bool:
        return isinstance(answer, int) and answer < 400

    def _hooks_for(self, account: str, event: str) -> list[Webhook]:
        wanted = event.replace("woovi:", "OPENPIX:")
        return [hook for hook in self.webhooks if hook.account == account and hook.active and hook.event == wanted]

    def _headers(self, hook: Webhook, content: bytes, signature: Signature) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if hook.authorization:
            headers["Authorization"] = hook.authorization
        if signature in ("right", "wrong"):
            headers["x-webhook-signature"] = self.keys.sign(content if signature == "right" else content + b" ")
        if signature != "missing":
            headers["X-OpenPix-Signature"] = legacy_signature(hook.hmac_secret, content)
        return headers

    def _test(self, hook: Webhook) -> list[Notice]:
        content = json.dumps({"data_criacao": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000Z", "event": hook.event})
        return self.post(hook.url, content.encode(), self._headers(hook, content.encode(), "right"))

    def _charge(self, name: str | Charge) -> Charge:
        found = [charge for charge in self.charges.values() if name in (charge, charge.reference, charge.id)]
        assert len(found) == 1, f"{len(found)} charges are called {name}"
        return found[0]

    def hint(self, charge: Charge) -> object:
        return self.send_notice(charge, changes={"status": "COMPLETED"})

    # The API

    def check(self, call: Call) -> None:
        is_open = call.path == "/api/v1/webhook/public-keys" or call.path.startswith("/openpix/")
        if not is_open and call.headers.get("authorization", "") not in self._accounts:
            raise Refused(401, {"data": None, "errors": [{"message": "appID inválido"}]})

    @route("POST", "/api/v1/charge")
    def create(self, call: Call) -> dict[str, Any]:
        account, asked = call.headers["authorization"], call.json
        _validate(asked)
        known = self.charges.get((account, asked["correlationID"]))
        if known and call.query.get("return_existing") != "true":
            raise _refused("Já existe uma cobrança com o correlationID fornecido")
        charge = known or self._create(account, asked)
        if not known:
            self.send_notice(charge, "OPENPIX:CHARGE_CREATED")
        return {
            "charge": charge_shape(charge, self.url),
            "correlationID": charge.reference,
            "brCode": charge.pix_code,
        }

    def _create(self, account: str, asked: dict[str, Any]) -> Charge:
        txid = uuid.uuid4().hex
        code = br_code(f"api.woovi.example/api/qr/v1/{txid}", asked["value"])
        lifetime = timedelta(seconds=asked.get("expiresIn", 86400))
        charge = Charge(account, asked["value"], code, asked["correlationID"], id=txid, lifetime=lifetime)
        self.charges[account, charge.reference] = charge
        return charge

    @route("GET", "/api/v1/charge/{name}")
    def show(self, call: Call, name: str) -> dict[str, Any]:
        return {"charge": charge_shape(self._find(call, name), self.url)}

    @route("DELETE", "/api/v1/charge/{name}")
    def delete(self, call: Call, name: str) -> dict[str, Any]:
        charge = self._find(call, name)
        if charge.paid:
            raise _refused("Cobrança já paga")
        del self.charges[charge.account, charge.reference]
        return {"status": "OK", "id": name}

    @route("POST", "/api/v1/charge/{name}/refund")
    def refund(self, call: Call, name: str) -> dict[str, Any]:
        charge, asked = self._find(call, name), call.json or {}
        reference = asked.get("correlationID")
        if not isinstance(reference, str) or not reference:
            raise _refused("O campo correlationID é obrigatório")
        if len(asked.get("comment") or "") > 140:
            raise _refused("O comentário deve ter no máximo 140 caracteres")
        known = [refund for refund in charge.refunds if refund.reference == reference]
        refund = known[0] if known else _open_refund(charge, reference, asked.get("value"))
        return {"refund": refund_shape(charge, refund, asked.get("comment") or "", end_to_end_id(refund.at, "D"))}

    def _find(self, call: Call, name: str) -> Charge:
        account = call.headers["authorization"]
        mine = [charge for (owner, _), charge in self.charges.items() if owner == account]
        for charge in mine:
            if name in (charge.reference, charge.id):
                return charge
        raise _refused("Cobrança não encontrada")

    @route("GET", "/api/v1/webhook/public-keys")
    def public_keys(self, call: Call) -> Reply:
        return Reply({"public_keys": self.keys.listed()}, headers={"Cache-Control": "public, max-age=3600"})

    @route("GET", "/api/v1/webhook/events")
    def events(self, call: Call) -> dict[str, Any]:
        return {"events": [{"name": name} for name in EVENTS]}

    @route("GET", "/api/v1/webhook")
    def list_webhooks(self, call: Call) -> dict[str, Any]:
        account = call.headers["authorization"]
        return {"webhooks": [webhook_shape(hook) for hook in self.webhooks if hook.account == account]}

    @route("POST", "/api/v1/webhook")
    def register_webhook(self, call: Call) -> dict[str, Any]:
        asked = (call.json or {}).get("webhook") or {}
        if urlsplit(asked.get("url") or "").scheme not in ("http", "https"):
            raise _refused("URL inválida")
        event = asked.get("event") or COMPLETED
        if event not in EVENTS:
            raise _refused("Evento inválido")
        hook = Webhook(call.headers["authorization"], event, asked["url"], asked.get("name") or "")
        hook.authorization, hook.active = asked.get("authorization"), asked.get("isActive", True)
        self.webhooks.append(hook)
        self._test(hook)
        return {"webhook": webhook_shape(hook)}

    @route("DELETE", "/api/v1/webhook/{hook_id}")
    def delete_webhook(self, call: Call, hook_id: str) -> dict[str, Any]:
        mine = [hook for hook in self.webhooks if (hook.account, hook.id) == (call.headers["authorization"], hook_id)]
        if not mine:
            raise _refused("Webhook não encontrado")
        self.webhooks.remove(mine[0])
        return {"status": "Webhook removido"}

    @route("GET", "/openpix/charge/brcode/image/{name}")
    def image(self, call: Call, name: str) -> Reply:
        return Reply(PNG, headers={"Content-Type": "image/png"})

    def unknown(self, call: Call) -> Refused:
        return Refused(404, {"error": "Not Found"})


def _validate(asked: Any) -> None:
    if not isinstance(asked, dict):
        raise _refused("Corpo inválido")
    if not isinstance(asked.get("correlationID"), str) or not asked["correlationID"]:
        raise _refused("O campo correlationID é obrigatório")
    value = asked.get("value")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refused("O valor deve ser um número inteiro maior que zero")
    if asked.get("expiresIn", 300) < 300:
        raise _refused("O campo expiresIn deve ser no mínimo 300")
    if asked.get("type", "DYNAMIC") not in ("DYNAMIC", "OVERDUE", "BOLETO"):
        raise _refused("Tipo de cobrança inválido")
    customer = asked.get("customer")
    if customer is not None and not (
        customer.get("name") and any(customer.get(k) for k in ("taxID", "email", "phone"))
    ):
        raise _refused("O cliente deve ter nome e um de taxID, email ou phone")


def _open_refund(charge: Charge, reference: str, asked: int | None) -> Refund:
    left = (charge.paid_cents or 0) - charge.refunded_cents
    cents = left if asked is None else asked
    if not charge.paid or not 0 < cents <= left:
        raise _refused("Valor do reembolso inválido")
    refund = Refund(reference, cents, datetime.now(UTC))
    charge.refunds.append(refund)
    return refund


def _refused(message: str) -> Refused:
    return Refused(400, {"error": message})


FAKE = FakeWoovi
