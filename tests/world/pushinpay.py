"""PushinPay as its documentation and its integrators know it. The product's base URL is `fake.url` (it ends in /api).

Oddities kept on purpose: ids in lower case when created and in upper case when asked for; `value` a number when
created and a text when asked for; an unknown transaction is a 404 with `[]`; notices carry no signature.
From integrators only, not from the documentation: the refund route, `GET /balance`, the header of notices.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.world.bank import PNG_URI, Charge, Refund, br_code
from tests.world.calls import Call, Refused
from tests.world.faults import Reply
from tests.world.gateway import FakeGateway
from tests.world.notices import Notice
from tests.world.server import route


class FakePushinPay(FakeGateway):
    """charges: {id in lower case: Charge}. long_codes: hand out PIX codes of more than 256 characters."""

    kind = "pushinpay"
    base = "/api"

    def __init__(self, *, long_codes: bool = False) -> None:
        super().__init__()
        self.long_codes = long_codes
        self._accounts: dict[str, str | None] = {}
        self._paid_at_birth: list[dict[str, Any]] = []

    # The seller's side

    def open_account(self, number: int) -> dict[str, str]:
        self.add_account(f"pushinpay-token-{number}")
        return {"token": f"pushinpay-token-{number}"}

    def add_account(self, token: str, notice_token: str | None = None) -> None:
        """An account; notice_token: sent as x-pushinpay-token with its notices."""
        self._accounts[token] = notice_token

    def revoke(self, token: str) -> None:
        del self._accounts[token]

    # The buyer's and the bank's side

    def pay(
        self,
        provider_id: str,
        notices: int = 1,
        *,
        form: bool = False,
        amount: int | None = None,
        hold: bool = False,
    ) -> list[Notice]:
        """The buyer pays: the ledger says so from here on, and so many notices go out (to the charge's URL).

        amount: cents, where they differ from what was asked; hold: the notices wait for `release`.
        """
        with self.lock:
            charge = self.charges[provider_id.lower()]
            charge.pay(amount)
        self.touch()
        return self.send_notice(provider_id, copies=notices, form=form, hold=hold)

    def pay_next(self, notices: int = 1, *, form: bool = False, amount: int | None = None) -> None:
        """The next charge is paid at once, and its notices are on their way before its creation is answered."""
        self._paid_at_birth.append({"notices": notices, "form": form, "amount": amount})

    def expire(self, provider_id: str, notices: int = 1, status: str = "expired") -> list[Notice]:
        """status: "expired" or "canceled"."""
        self.charges[provider_id.lower()].ended = status
        return self.send_notice(provider_id, copies=notices)

    def send_notice(
        self,
        provider_id: str,
        *,
        status: str | None = None,
        body: bytes | None = None,
        changes: Mapping[str, Any] | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        form: bool = False,
        copies: int = 1,
        hold: bool = False,
    ) -> list[Notice]:
        """A notice about a charge, true unless told otherwise: another status word, changed fields, a whole other
        body, other headers, another address. Nothing is sent when the charge has no address."""
        charge = self.charges[provider_id.lower()]
        target = url or charge.notice_url
        if not target:
            return []
        fields = self._seen(charge) | ({"status": status} if status else {}) | dict(changes or {})
        content = body if body is not None else _form(fields) if form else json.dumps(fields).encode()
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        token = self._accounts.get(charge.account)
        own = {"x-pushinpay-token": token} if token else {}
        return self.post(target, content, {"Content-Type": kind, **own, **(headers or {})}, copies=copies, hold=hold)

    def hint(self, charge: Charge) -> object:
        return self.send_notice(charge.id, status="paid")

    # The API

    def check(self, call: Call) -> None:
        if call.headers.get("accept", "") != "application/json":
            raise Refused(406, {"message": "Not Acceptable: send Accept: application/json"})
        if _token(call) not in self._accounts:
            raise Refused(401, {"message": "Unauthenticated."})

    @route("POST", "/pix/cashIn")
    async def create(self, call: Call) -> Reply:
        with self.lock:
            charge = self._create(_token(call), call.json)
            births = [self._paid_at_birth.pop(0)] if self._paid_at_birth else []
            answer = self._created(charge)
        for birth in births:
            sent = self.pay(charge.id, **birth)
            await asyncio.gather(*(notice.answered.wait() for notice in sent))
        return Reply(answer)

    def _create(self, token: str, asked: Any) -> Charge:
        _validate(asked)
        charge = Charge(token, asked["value"], "", notice_url=asked.get("webhook_url") or "")
        charge.pix_code = br_code(f"pix.pushinpay.example/qr/v3/at/{charge.id}", charge.cents, long=self.long_codes)
        self.charges[charge.id] = charge
        return charge

    @route("GET", "/transactions/{provider_id}")
    def show(self, call: Call, provider_id: str) -> dict[str, Any]:
        return self._seen(self._find(call, provider_id))

    @route("POST", "/transactions/{provider_id}/refund")
    def refund(self, call: Call, provider_id: str) -> dict[str, Any]:
        charge = self._find(call, provider_id)
        if not charge.paid or charge.refunds:
            raise Refused(422, _problem("status", "Esta transação não pode ser reembolsada."))
        charge.refunds.append(Refund(charge.id, charge.paid_cents or 0, datetime.now(UTC), done=True))
        return self._seen(charge)

    @route("GET", "/balance")
    def balance(self, call: Call) -> dict[str, Any]:
        mine = [charge for charge in self.charges.values() if charge.account == _token(call)]
        return {"balance": sum((charge.paid_cents or 0) - charge.refunded_cents for charge in mine)}

    def _find(self, call: Call, provider_id: str) -> Charge:
        charge = self.charges.get(provider_id.lower())
        if charge is None or charge.account != _token(call):
            raise Refused(404, [])
        return charge

    # What an answer looks like

    def _created(self, charge: Charge) -> dict[str, Any]:
        return {
            "id": charge.id,
            "qr_code": charge.pix_code,
            "status": "created",
            "value": charge.cents,
            "webhook_url": charge.notice_url or None,
            "qr_code_base64": PNG_URI,
            "webhook": None,
            "split_rules": [],
            "end_to_end_id": None,
            "payer_name": None,
            "payer_national_registration": None,
        }

    def _seen(self, charge: Charge) -> dict[str, Any]:
        created = _stamp(charge.created_at)
        updated = _stamp(charge.paid_at or charge.created_at)
        expires = charge.created_at + timedelta(hours=24)
        return {
            "id": charge.id.upper(),
            "status": _status(charge),
            "value": str(charge.cents if charge.paid_cents is None else charge.paid_cents),
            "description": "Pagamento PIX",
            "payment_type": "pix",
            "created_at": created,
            "updated_at": updated,
            "webhook_url": charge.notice_url or None,
            "split_rules": [],
            "fee": None,
            "total": None,
            "end_to_end_id": charge.end_to_end_id,
            "payer_name": "Compradora de Teste" if charge.paid else None,
            "payer_national_registration": None,
            "webhook": None,
            "emails": None,
            "pix_details": {
                "id": charge.id.upper(),
                "expiration_date": f"{expires:%Y-%m-%d %H:%M:%S}.000",
                "emv": charge.pix_code,
                "created_at": created,
                "updated_at": updated,
            },
            "transaction_product": [],
        }


def _validate(asked: Any) -> None:
    if not isinstance(asked, dict):
        raise Refused(400, {"message": "Bad Request: the body is no JSON object"})
    value = asked.get("value")
    if value is None:
        raise Refused(422, _problem("value", "O campo value é obrigatório."))
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(422, _problem("value", "O campo value deve ser um número inteiro."))
    if value < 50:
        raise Refused(422, _problem("value", "O campo value deve ser no mínimo 50."))
    if (url := asked.get("webhook_url")) is not None and not _is_url(url):
        raise Refused(422, _problem("webhook_url", "O campo webhook url deve ser uma URL válida."))
    _validate_split(asked.get("split_rules") or [], value)


def _validate_split(rules: Any, value: int) -> None:
    if not isinstance(rules, list) or not all(isinstance(rule, dict) and "account_id" in rule for rule in rules):
        raise Refused(422, _problem("split_rules", "O campo split rules deve ser uma lista."))
    if sum(rule.get("value", 0) for rule in rules) * 2 > value:
        raise Refused(422, _problem("split_rules", "O valor do split não pode passar de 50% do valor."))


def _is_url(url: Any) -> bool:
    parts = urlsplit(url) if isinstance(url, str) else None
    return bool(parts and parts.scheme in ("http", "https") and parts.hostname)


def _problem(field: str, message: str) -> dict[str, Any]:
    return {"message": message, "errors": {field: [message]}}


def _token(call: Call) -> str:
    kind, _, token = call.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def _status(charge: Charge) -> str:
    if charge.refunds:
        return "refunded"  # the real word is not documented
    if charge.paid:
        return "paid"
    return charge.ended or "created"


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"


def _form(fields: Mapping[str, Any]) -> bytes:
    flat = {key: value for key, value in fields.items() if not isinstance(value, dict | list)}
    return urlencode({key: "" if value is None else value for key, value in flat.items()}).encode()


FAKE = FakePushinPay
