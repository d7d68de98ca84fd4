"""WiinPay as its integrators know it. The product's base URL is `fake.url`.

Kept on purpose: the key comes in the body of a create and as a Bearer token with a query; amounts are numbers in reais, at
least 3; a query is answered with a list; what is in a notice is a guess. Texts of refusals are ours.
"""

from __future__ import annotations

from typing import Any

from tests.world.bank import Charge
from tests.world.calls import Call, Refused
from tests.world.faults import Reply
from tests.world.plain import PlainGateway, cents_of, is_text, is_url
from tests.world.server import route


class FakeWiinPay(PlainGateway):
    kind = "wiinpay"
    words = {"pending": "pending", "paid": "paid", "refunded": "refunded", "ended": "expired"}

    def __init__(self) -> None:
        super().__init__()
        self._accounts: set[str] = set()

    def open_account(self, number: int) -> dict[str, str]:
        key = f"wiinpay-key-{number}"
        self._accounts.add(key)
        return {"api_key": key}

    def told(self, charge: Charge, word: str) -> dict[str, Any]:
        return {
            "id": charge.id,
            "status": word,
            "value": cents_of(charge) / 100,
            "metadata": {"reference": charge.reference},
            "payer_name": "Compradora de Teste",
        }

    def check(self, call: Call) -> None:
        kind, _, key = call.headers.get("authorization", "").partition(" ")
        given = (call.json or {}).get("api_key") if call.method == "POST" else key if kind == "Bearer" else ""
        if given not in self._accounts:
            raise Refused(401, {"message": "Chave de API inválida"})

    @route("POST", "/payment/create")
    def create(self, call: Call) -> Reply:
        asked = call.json
        _validate(asked)
        metadata = asked.get("metadata") or {}
        charge = self.open_charge(
            asked["api_key"],
            round(asked["value"] * 100),
            asked.get("webhook_url"),
            reference=metadata.get("reference", ""),
        )
        return Reply({"qr_code": charge.pix_code, "paymentId": charge.id}, 201)

    @route("GET", "/payment/list/{provider_id}")
    def show(self, call: Call, provider_id: str) -> Any:
        key = call.headers["authorization"].removeprefix("Bearer ")
        charge = self.find(provider_id, key, {"message": "Pagamento não encontrado"})
        seen = self.told(charge, self.word(charge))
        return {"paymentId": seen.pop("id"), **seen}


def _validate(asked: dict[str, Any]) -> None:
    value = asked.get("value")
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 3:
        raise _refused("O valor mínimo é R$ 3,00")
    if not all(is_text(asked.get(name)) for name in ("name", "email", "description")):
        raise _refused("name, email e description são obrigatórios")
    if asked.get("webhook_url") is not None and not is_url(asked["webhook_url"]):
        raise _refused("webhook_url inválida")


def _refused(message: str) -> Refused:
    return Refused(422, {"message": message})


FAKE = FakeWiinPay
