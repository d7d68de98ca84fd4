"""Átomo Pay: charges in cents of an offer with their price, the token in the address, notices without a signature.

Facts from other people's integrations; docs/gateways.md says what is unconfirmed.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gateways import fields, http
from gateways.base import (
    Account,
    BadGatewayAnswer,
    Charge,
    ChargeRequest,
    ChargeState,
    Credential,
    Gateway,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayTimeout,
    GatewayUnreachable,
    Notice,
    PayerField,
    RawNotice,
    Status,
    UnreadableNotice,
)

_STATUSES = {
    "paid": Status.PAID,
    "approved": Status.PAID,
    "refused": Status.CANCELLED,
    "canceled": Status.CANCELLED,
    "cancelled": Status.CANCELLED,
    "expired": Status.EXPIRED,
    "refunded": Status.REFUNDED,
}
_IDS = ("transaction_hash", "hash")
_WORDS = ("payment_status", "status")


class AtomoPay(Gateway):
    kind = "atomopay"
    label = "Átomo Pay"
    api_url = "https://api.atomopay.com.br/api/public/v1"
    credentials = (
        Credential("api_token", "Token da API"),
        Credential(
            "product_hash",
            "Código do produto",
            help="De um produto digital seu na Átomo Pay. As ofertas com os preços das vendas são criadas nele.",
        ),
    )
    experimental = True
    payer_needs = frozenset({PayerField.NAME, PayerField.EMAIL, PayerField.PHONE})
    refunds = False  # no way to is known

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        """No idempotency is known: asked twice, it makes two charges."""
        wanted = _wanted(account, request, _offer(account, request))
        answer = _ask(account, "POST", "/transactions", wanted)
        made = fields.inside(answer)
        provider_id, code = _one_of(made, _IDS), _code(made)
        if answer.get("success") is False and not provider_id:
            raise GatewayRefused(f"refused with 2xx: {http.said(answer, account)}")
        if not (fields.ident(provider_id) and code):
            raise BadGatewayAnswer("the answer has no id or no code")
        if fields.cents(made.get("amount")) not in (None, request.amount_cents):
            raise BadGatewayAnswer("the charge has another amount")
        return Charge(provider_id=provider_id, pix_code=code, raw=answer)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        answer = http.if_known(lambda: _ask(account, "GET", f"/transactions/{quote(provider_id, safe='')}"))
        if answer is None:
            return None
        state = _state(fields.inside(answer))
        if state.provider_id != provider_id:
            raise BadGatewayAnswer("the answer is about another charge")
        return state

    def parse_notice(self, notice: RawNotice) -> Notice:
        """Short, or the whole transaction."""
        body = fields.json_notice(notice.body)
        state = _state(fields.inside(body))
        reference = fields.ident(notice.query.get("t"))
        if not (state.provider_id or reference):
            raise UnreadableNotice("the body names no transaction")
        about = fields.inside(body).get("payment_method") in (None, "pix")
        return Notice(
            reference=reference,
            provider_id=state.provider_id or None,
            state=state if about else None,
            event=state.raw_status,
        )

    def probe(self, account: Account) -> None:
        """Asks for the balance, which makes nothing."""
        _ask(account, "GET", "/balance")


def _ask(account: Account, method: str, path: str, json: Any = None) -> dict[str, Any]:
    """The token has no other place than the address; nothing that we say of an error tells an address."""
    return http.ask(account, method, path, query={"api_token": http.credential(account, "api_token")}, json=json)


def _offer(account: Account, request: ChargeRequest) -> str:
    """An offer of the product at this price, made where there is none. Whatever fails here made no charge."""
    product = f"/products/{quote(http.credential(account, 'product_hash'), safe='')}"
    try:
        offers = _product(account, product).get("offers")
        known = [fields.nested(one) for one in offers] if isinstance(offers, list) else []
        fitting = [fields.ident(one.get("hash")) for one in known if one.get("price") == request.amount_cents]
        found = next(filter(None, fitting), None) or _new_offer(account, product, request)
    except (GatewayTimeout, BadGatewayAnswer) as error:
        raise GatewayUnreachable(f"no offer to charge for: {error}") from None
    return found


def _product(account: Account, path: str) -> dict[str, Any]:
    answer = http.if_known(lambda: _ask(account, "GET", path))
    if answer is None:
        raise GatewayMisconfigured("it does not know the product")
    return fields.inside(answer)


def _new_offer(account: Account, product: str, request: ChargeRequest) -> str:
    wanted = {"title": request.description, "price": request.amount_cents}
    made = fields.inside(_ask(account, "POST", f"{product}/offers", wanted))
    found = fields.ident(made.get("hash"))
    if not found:
        raise BadGatewayAnswer("the new offer has no hash")
    return found


def _wanted(account: Account, request: ChargeRequest, offer: str) -> dict[str, Any]:
    payer = request.payer
    customer = {"name": payer.name, "email": payer.email, "phone_number": fields.national_phone(payer.phone)}
    item = {
        "product_hash": account.credentials["product_hash"],
        "offer_hash": offer,
        "title": request.description,
        "price": request.amount_cents,
        "quantity": 1,
        "operation_type": 1,
        "tangible": False,
    }
    return {
        "amount": request.amount_cents,
        "offer_hash": offer,
        "payment_method": "pix",
        "customer": customer | ({"document": payer.document} if payer.document else {}),
        "cart": [item],
        "installments": 1,
        "postback_url": request.notice_url,
        "transaction_origin": "api",
    }


def _code(made: dict[str, Any]) -> str | None:
    pix = fields.nested(made.get("pix"))
    return fields.text(pix.get("pix_qr_code") or made.get("pix_code"), limit=1000)


def _one_of(told: dict[str, Any], names: tuple[str, ...]) -> str:
    """What goes by any of these names; "" where they disagree."""
    found = {told[name] for name in names if isinstance(told.get(name), str)}
    return found.pop() if len(found) == 1 else ""


def _state(told: dict[str, Any]) -> ChargeState:
    word = _one_of(told, _WORDS)[:200].strip()
    return ChargeState(
        status=_STATUSES.get(word.lower(), Status.PENDING),
        provider_id=fields.ident(_one_of(told, _IDS)) or "",
        amount_cents=fields.cents(told.get("amount")),
        paid_at=fields.when(told.get("paid_at")),
        raw_status=word,
    )


gateway = AtomoPay()
