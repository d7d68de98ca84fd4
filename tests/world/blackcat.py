"""BlackCat as its integrators know it. The product's base URL is `fake.url` (it ends in /v1).

Kept on purpose: both keys in HTTP Basic; ids are numbers; the whole payer is demanded; the items have to add up to the
amount; a notice's envelope has an id of its own. Texts of refusals are ours.
"""

from __future__ import annotations

from base64 import b64encode
from itertools import count
from typing import Any

from tests.world.bank import Charge
from tests.world.calls import Call, Refused
from tests.world.plain import PlainGateway, cents_of, is_cents, is_digits, is_text, is_url
from tests.world.server import route


class FakeBlackCat(PlainGateway):
    kind = "blackcat"
    base = "/v1"
    words = {"pending": "waiting_payment", "paid": "paid", "refunded": "refunded", "ended": "expired"}

    def __init__(self) -> None:
        super().__init__()
        self._accounts: set[str] = set()
        self._numbers = count(281904)

    def open_account(self, number: int) -> dict[str, str]:
        public, secret = f"pk_blackcat_{number}", f"sk_blackcat_{number}"
        self._accounts.add("Basic " + b64encode(f"{public}:{secret}".encode()).decode())
        return {"public_key": public, "secret_key": secret}

    def told(self, charge: Charge, word: str) -> dict[str, Any]:
        seen = self._seen(charge) | {"status": word}
        return {"id": len(self.notices) + 1, "type": "transaction", "objectId": charge.id, "data": seen}

    def check(self, call: Call) -> None:
        if call.headers.get("authorization", "") not in self._accounts:
            raise Refused(401, {"message": "Unauthorized"})

    @route("POST", "/transactions")
    def create(self, call: Call) -> dict[str, Any]:
        asked = call.json
        _validate(asked)
        charge = self.open_charge(
            call.headers["authorization"], asked["amount"], asked.get("postbackUrl"), name=str(next(self._numbers))
        )
        return self._seen(charge)

    @route("GET", "/transactions/{provider_id}")
    def show(self, call: Call, provider_id: str) -> dict[str, Any]:
        return self._seen(self.find(provider_id, call.headers["authorization"], {"message": "Not found"}))

    def _seen(self, charge: Charge) -> dict[str, Any]:
        pix = {"qrcode": charge.pix_code, "expirationDate": None, "end2EndId": charge.end_to_end_id, "receiptUrl": None}
        told = {"id": int(charge.id), "status": self.word(charge), "amount": cents_of(charge), "currency": "BRL"}
        return told | {"paymentMethod": "pix", "pix": pix}


def _validate(asked: Any) -> None:
    asked = asked if isinstance(asked, dict) else {}
    if not is_cents(asked.get("amount")) or asked.get("paymentMethod") != "pix":
        raise _refused("amount ou paymentMethod inválido")
    items = asked.get("items")
    items = items if isinstance(items, list) and all(isinstance(item, dict) for item in items) else []
    if not all(is_text(item.get("title")) and isinstance(item.get("tangible"), bool) for item in items):
        raise _refused("items inválido")
    if sum(item.get("unitPrice", 0) * item.get("quantity", 0) for item in items) != asked["amount"]:
        raise _refused("O valor não é o dos itens")
    _validate_customer(asked.get("customer"))
    if asked.get("postbackUrl") is not None and not is_url(asked["postbackUrl"]):
        raise _refused("postbackUrl inválida")


def _validate_customer(customer: Any) -> None:
    customer = customer if isinstance(customer, dict) else {}
    document = customer.get("document") if isinstance(customer.get("document"), dict) else {}
    if not all(is_text(customer.get(name)) for name in ("name", "email")) or document.get("type") not in (
        "cpf",
        "cnpj",
    ):
        raise _refused("customer inválido")
    if not is_digits(document.get("number"), 11, 14) or not is_digits(customer.get("phone"), 10, 15):
        raise _refused("document ou phone inválido")


def _refused(message: str) -> Refused:
    return Refused(400, {"message": message})


FAKE = FakeBlackCat
