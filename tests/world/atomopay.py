"""Átomo Pay as its integrators know it. The product's base URL is `fake.url` (it ends in /v1).

Kept on purpose: the token comes in the address; amounts are cents; an offer's price has to be the amount; notices are
short. Texts of refusals are ours.
"""

from __future__ import annotations

import secrets
from typing import Any

from tests.world.bank import Charge
from tests.world.calls import Call, Refused
from tests.world.faults import Reply
from tests.world.plain import PlainGateway, cents_of, is_cents, is_digits, is_text, is_url
from tests.world.server import route


class FakeAtomoPay(PlainGateway):
    """offers: {product hash: {offer hash: price in cents}}."""

    kind = "atomopay"
    base = "/v1"
    words = {"pending": "waiting_payment", "paid": "paid", "refunded": "refunded", "ended": "expired"}

    def __init__(self) -> None:
        super().__init__()
        self.offers: dict[str, dict[str, int]] = {}
        self._accounts: dict[str, str] = {}

    def open_account(self, number: int) -> dict[str, str]:
        token, product = f"atomopay-token-{number}", f"produto{number}"
        self._accounts[token] = product
        self.offers[product] = {}
        return {"api_token": token, "product_hash": product}

    def told(self, charge: Charge, word: str) -> dict[str, Any]:
        paid = f"{charge.paid_at:%Y-%m-%dT%H:%M:%SZ}" if charge.paid_at else None
        told = {"transaction_hash": charge.id, "status": word, "amount": cents_of(charge), "payment_method": "pix"}
        return told | {"paid_at": paid}

    def check(self, call: Call) -> None:
        if call.query.get("api_token", "") not in self._accounts:
            raise Refused(401, {"message": "Unauthenticated."})

    @route("GET", "/balance")
    def balance(self, call: Call) -> dict[str, Any]:
        return {"balance": 0}

    @route("GET", "/products/{product}")
    def show_product(self, call: Call, product: str) -> dict[str, Any]:
        self._check_product(call, product)
        offers = [{"hash": name, "title": "Oferta", "price": price} for name, price in self.offers[product].items()]
        return {"hash": product, "title": "Produto", "offers": offers}

    @route("POST", "/products/{product}/offers")
    def add_offer(self, call: Call, product: str) -> Reply:
        self._check_product(call, product)
        asked = call.json if isinstance(call.json, dict) else {}
        if not is_text(asked.get("title")) or not is_cents(asked.get("price")):
            raise _refused("title e price são obrigatórios")
        made = secrets.token_hex(5)
        self.offers[product][made] = asked["price"]
        return Reply({"hash": made, "title": asked["title"], "price": asked["price"]}, 201)

    def _check_product(self, call: Call, product: str) -> None:
        if self._accounts[call.query["api_token"]] != product:
            raise Refused(404, {"message": "Produto não encontrado"})

    @route("POST", "/transactions")
    def create(self, call: Call) -> Reply:
        token, asked = call.query["api_token"], call.json
        self._validate(token, asked)
        charge = self.open_charge(token, asked["amount"], asked.get("postback_url"), name=secrets.token_hex(8))
        return Reply(self._seen(charge), 201)

    def _validate(self, token: str, asked: Any) -> None:
        asked = asked if isinstance(asked, dict) else {}
        if not is_cents(asked.get("amount")) or asked.get("payment_method") != "pix" or asked.get("installments") != 1:
            raise _refused("amount, payment_method ou installments inválido")
        product = self._accounts[token]
        if self.offers[product].get(asked.get("offer_hash", "")) != asked["amount"]:
            raise _refused("O valor não é o da oferta")
        cart = asked.get("cart")
        items = cart if isinstance(cart, list) and all(isinstance(item, dict) for item in cart) else []
        if not items or any(item.get("product_hash") != product or not is_text(item.get("title")) for item in items):
            raise _refused("cart inválido")
        if sum(item.get("price", 0) * item.get("quantity", 0) for item in items) != asked["amount"]:
            raise _refused("O valor não é o do carrinho")
        _validate_customer(asked.get("customer"))
        if asked.get("postback_url") is not None and not is_url(asked["postback_url"]):
            raise _refused("postback_url inválida")

    @route("GET", "/transactions/{provider_id}")
    def show(self, call: Call, provider_id: str) -> dict[str, Any]:
        problem = {"message": "Transação não encontrada"}
        return self._seen(self.find(provider_id, call.query["api_token"], problem))

    def _seen(self, charge: Charge) -> dict[str, Any]:
        number = list(self.charges).index(charge.id)
        return {
            "id": number,
            "hash": charge.id,
            "payment_status": self.word(charge),
            "payment_method": "pix",
            "amount": cents_of(charge),
            "pix": {"pix_url": None, "pix_qr_code": charge.pix_code, "pix_base64": None},
            "producer": {"hash": "produtor"},
        }


def _validate_customer(customer: Any) -> None:
    customer = customer if isinstance(customer, dict) else {}
    if not all(is_text(customer.get(name)) for name in ("name", "email", "phone_number")):
        raise _refused("Os dados do cliente são obrigatórios")
    if not is_digits(customer["phone_number"], 10, 15):
        raise _refused("phone_number inválido")
    if "document" in customer and not is_digits(customer["document"], 11, 14):
        raise _refused("document inválido")


def _refused(message: str) -> Refused:
    return Refused(422, {"message": message})


FAKE = FakeAtomoPay
