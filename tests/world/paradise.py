"""Paradise as its documentation and its integrators know it. The product's base URL is `fake.url` (it ends in /api/v1).

Kept on purpose: ids are numbers in answers and texts in notices; the whole payer and a known product are demanded; a
reference is taken once; some refusals come with 200 and `status: "error"` inside; a refund takes no amount and a charge
goes back once; notices carry no signature. Texts of refusals are ours where the documentation has none.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from tests.world.bank import PNG_URI, Charge
from tests.world.calls import Call, Refused
from tests.world.plain import PlainGateway, cents_of, give_back, is_cents, is_digits, is_text, is_url
from tests.world.server import route


class FakeParadise(PlainGateway):
    kind = "paradise"
    base = "/api/v1"
    words = {"pending": "pending", "paid": "approved", "refunded": "refunded", "ended": "failed"}

    def __init__(self) -> None:
        super().__init__()
        self._accounts: dict[str, str] = {}
        self._numbers = count(238)

    def open_account(self, number: int) -> dict[str, str]:
        key, product = f"sk_paradise_{number}", f"prod_{number:08d}"
        self._accounts[key] = product
        return {"api_key": key, "product_hash": product}

    def told(self, charge: Charge, word: str) -> dict[str, Any]:
        return {
            "transaction_id": charge.id,
            "external_id": charge.reference,
            "status": word,
            "amount": cents_of(charge),
            "payment_method": "pix",
            "customer": charge.payer,
            "raw_status": "COMPLETED" if word == "approved" else word.upper(),
            "webhook_type": "transaction",
            "timestamp": f"{charge.created_at:%Y-%m-%d %H:%M:%S}",
            "tracking": {},
        }

    def check(self, call: Call) -> None:
        if call.headers.get("x-api-key", "") not in self._accounts:
            raise Refused(401, {"status": "error", "message": "API Key inválida."})

    @route("POST", "/transaction.php")
    def create(self, call: Call) -> dict[str, Any]:
        key, asked = call.headers["x-api-key"], call.json
        self._validate(key, asked)
        charge = self.open_charge(
            key, asked["amount"], asked.get("postback_url"), name=str(next(self._numbers)), reference=asked["reference"]
        )
        charge.payer = asked["customer"]
        return {
            "status": "success",
            "transaction_id": int(charge.id),
            "id": charge.reference,
            "qr_code": charge.pix_code,
            "qr_code_base64": PNG_URI,
            "amount": charge.cents,
            "acquirer": "ParadiseBank",
            "attempts": 1,
            "expires_at": f"{charge.created_at:%Y-%m-%d %H:%M:%S}",
        }

    def _validate(self, key: str, asked: Any) -> None:
        if not isinstance(asked, dict) or not is_cents(asked.get("amount")):
            raise _refused("O campo amount deve ser um inteiro em centavos.")
        if not is_text(asked.get("description")):
            raise _refused("O campo description é obrigatório.")
        if not is_text(asked.get("reference")) or len(asked["reference"]) > 50:
            raise _refused("O campo reference é obrigatório e tem no máximo 50 caracteres.")
        if any(charge.reference == asked["reference"] for charge in self.charges.values()):
            raise _refused("Já existe uma transação com esta referência.")
        if asked.get("postback_url") is not None and not is_url(asked["postback_url"]):
            raise _refused("O campo postback_url deve ser uma URL.")
        _validate_customer(asked.get("customer"))
        if asked.get("productHash") != self._accounts[key]:
            raise Refused(200, {"status": "error", "message": "Produto não encontrado."})

    @route("GET", "/query.php")
    def query(self, call: Call) -> Any:
        key = call.headers["x-api-key"]
        if call.query.get("action") == "get_transaction":
            return _seen(self, self.find(call.query.get("id", ""), key, {"message": "Transação não encontrada."}))
        if call.query.get("action") != "list_transactions":
            raise _refused("Ação inválida.")
        mine = [charge for charge in self.charges.values() if charge.account == key]
        return [_seen(self, charge) for charge in mine if charge.reference == call.query.get("external_id")]

    @route("POST", "/refund.php")
    def refund(self, call: Call) -> dict[str, Any]:
        number = (call.json or {}).get("transaction_id")
        if not is_cents(number):
            raise _refused("O campo transaction_id deve ser um inteiro.")
        problem = {"success": False, "message": "Permissão negada."}
        charge = self.find(str(number), call.headers["x-api-key"], problem)
        if not charge.paid or charge.refunds:
            message = "Apenas transações aprovadas podem ser reembolsadas."
            raise Refused(422, {"success": False, "message": message})
        give_back(charge)
        return {"success": True, "message": "Reembolso processado com sucesso."}


def _seen(fake: FakeParadise, charge: Charge) -> dict[str, Any]:
    cents = cents_of(charge)
    return {
        "id": int(charge.id),
        "external_id": charge.reference,
        "status": fake.word(charge),
        "amount": cents,
        "created_at": f"{charge.created_at:%Y-%m-%d %H:%M:%S}",
        "updated_at": f"{charge.created_at:%Y-%m-%d %H:%M:%S}",
        "acquirer_name": "ParadiseBank",
        "amount_in_reais": f"{cents // 100},{cents % 100:02d}",
    }


def _validate_customer(customer: Any) -> None:
    customer = customer if isinstance(customer, dict) else {}
    if not all(is_text(customer.get(name)) for name in ("name", "email", "document", "phone")):
        raise _refused("Os dados do cliente são obrigatórios.")
    if not is_digits(customer["document"], 11, 14) or not is_digits(customer["phone"], 10, 11):
        raise _refused("Documento ou telefone inválido.")


def _refused(message: str) -> Refused:
    return Refused(400, {"message": message, "acquirer": "ParadiseBank"})


FAKE = FakeParadise
