"""SyncPay as its integrators know it. The product's base URL is `fake.url` (it ends in /v1).

Kept on purpose: credentials are exchanged for a token that ends; amounts are numbers in reais; the client has a CPF of
11 digits and a phone of 10 or 11; notices come in an envelope or flat, with what they are about in a header; the same
address is told of withdrawals. Texts of refusals are ours.
"""

from __future__ import annotations

import json
import secrets
import uuid
from typing import Any, Literal

from tests.world.bank import Charge
from tests.world.calls import Call, Refused
from tests.world.notices import Notice
from tests.world.plain import PlainGateway, cents_of, is_digits, is_text, is_url
from tests.world.server import route


class FakeSyncPay(PlainGateway):
    """generation: of its notices, "flat" or "envelope"."""

    kind = "syncpay"
    base = "/v1"
    words = {"pending": "pending", "paid": "completed", "refunded": "refunded", "ended": "failed"}

    def __init__(self) -> None:
        super().__init__()
        self.generation: Literal["flat", "envelope"] = "flat"
        self._accounts: dict[str, tuple[str, str]] = {}
        self._tokens: dict[str, str] = {}

    def open_account(self, number: int) -> dict[str, str]:
        known, secret, token = str(uuid.UUID(int=number)), f"syncpay-secret-{number}", f"syncpay-webhook-{number}"
        self._accounts[known] = secret, token
        return {"client_id": known, "client_secret": secret, "webhook_token": token}

    def end_tokens(self) -> None:
        self._tokens.clear()

    def withdraw(self, charge: Charge) -> list[Notice]:
        """A withdrawal of the same amount, told at the address of the charge."""
        body = {"id": str(uuid.uuid4()), "amount": f"{charge.cents / 100:.2f}", "status": "completed"}
        headers = self.notice_headers(charge) | {"event": "cashout.updated"}
        return self.post(charge.notice_url, _bytes(body), headers)

    def told(self, charge: Charge, word: str) -> dict[str, Any]:
        told = {
            "id": charge.id,
            "amount": f"{cents_of(charge) / 100:.2f}",
            "status": word,
            "payment_method": "PIX",
            "created_at": f"{charge.created_at:%Y-%m-%dT%H:%M:%S}.000000Z",
            "updated_at": f"{charge.created_at:%Y-%m-%dT%H:%M:%S}.000000Z",
        }
        return told if self.generation == "flat" else {"data": told | {"amount": cents_of(charge) / 100}}

    def notice_headers(self, charge: Charge) -> dict[str, str]:
        event = "cashin.updated" if self.generation == "flat" else "cashin.update"
        return {"event": event, "Authorization": f"Bearer {self._accounts[charge.account][1]}"}

    def check(self, call: Call) -> None:
        if call.path != f"{self.base}/auth-token" and _token(call) not in self._tokens:
            raise Refused(401, {"message": "Unauthenticated."})

    @route("POST", "/auth-token")
    def give_token(self, call: Call) -> dict[str, Any]:
        asked = call.json if isinstance(call.json, dict) else {}
        known, secret = asked.get("client_id"), asked.get("client_secret")
        if known not in self._accounts or self._accounts[known][0] != secret:
            raise Refused(401, {"message": "Credenciais inválidas."})
        token = secrets.token_urlsafe(16)
        self._tokens[token] = known
        return {"access_token": token, "token_type": "Bearer", "expires_in": 3600}

    @route("POST", "/cash-in")
    def create(self, call: Call) -> dict[str, Any]:
        asked = call.json
        _validate(asked)
        charge = self.open_charge(self._tokens[_token(call)], round(asked["amount"] * 100), asked.get("webhook_url"))
        return {
            "message": "Cashin request successfully submitted",
            "pix_code": charge.pix_code,
            "identifier": charge.id,
        }

    @route("GET", "/transaction/{provider_id}")
    def show(self, call: Call, provider_id: str) -> dict[str, Any]:
        charge = self.find(provider_id, self._tokens[_token(call)], {"message": "Transação não encontrada."})
        told = {"reference_id": charge.id, "status": self.word(charge), "amount": cents_of(charge) / 100}
        return {"data": {**told, "currency": "BRL", "pix_code": charge.pix_code}}

    @route("GET", "/balance")
    def balance(self, call: Call) -> dict[str, Any]:
        return {"balance": "0.00"}


def _token(call: Call) -> str:
    kind, _, token = call.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def _validate(asked: Any) -> None:
    asked = asked if isinstance(asked, dict) else {}
    amount, client = asked.get("amount"), asked.get("client")
    if not isinstance(amount, int | float) or isinstance(amount, bool) or amount <= 0:
        raise _refused("O campo amount deve ser um número.")
    if asked.get("webhook_url") is not None and not is_url(asked["webhook_url"]):
        raise _refused("O campo webhook_url deve ser uma URL.")
    client = client if isinstance(client, dict) else {}
    if not all(is_text(client.get(name)) for name in ("name", "email")):
        raise _refused("Os campos client.name e client.email são obrigatórios.")
    if not is_digits(client.get("cpf"), 11, 11) or not is_digits(client.get("phone"), 10, 11):
        raise _refused("CPF ou telefone inválido.")


def _bytes(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def _refused(message: str) -> Refused:
    return Refused(422, {"message": message})


FAKE = FakeSyncPay
