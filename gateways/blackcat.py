"""BlackCat and who runs the same software: charges in cents, the whole payer demanded, notices without a signature.

Facts from other people's integrations; docs/gateways.md says what is unconfirmed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    Notice,
    PayerField,
    RawNotice,
    Status,
    UnreadableNotice,
)

_STATUSES = {
    "paid": Status.PAID,
    "refused": Status.CANCELLED,
    "canceled": Status.CANCELLED,
    "cancelled": Status.CANCELLED,
    "expired": Status.EXPIRED,
    "refunded": Status.REFUNDED,
}


@dataclass(frozen=True, slots=True)
class _Company:
    """login: how it wants the two keys in HTTP Basic."""

    api_url: str
    login: str = "{public_key}:{secret_key}"


_COMPANIES = {
    "blackcat": _Company("https://api.blackcatpagamentos.com/v1"),
    "ghostspay": _Company("https://api.ghostspaysv2.com/functions/v1", "{secret_key}:{public_key}"),
    "payevo": _Company("https://apiv2.payevo.com.br/functions/v1", "{secret_key}:x"),
}


class BlackCat(Gateway):
    kind = "blackcat"
    label = "BlackCat e semelhantes"
    api_url = _COMPANIES["blackcat"].api_url
    credentials = (
        Credential("secret_key", "Chave secreta", help="Começa com sk_."),
        Credential(
            "public_key",
            "Chave pública",
            required=False,
            help="Na BlackCat, a que começa com pk_; na GhostsPay, o código da empresa; na PayEvo, deixe vazio.",
        ),
        Credential(
            "company", "Empresa", required=False, help=f"Uma destas: {', '.join(_COMPANIES)}. Vazio é a BlackCat."
        ),
    )
    experimental = True
    payer_needs = frozenset(PayerField)
    refunds = False  # no way to is known

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        """No idempotency is known: asked twice, it makes two charges."""
        answer = self._ask(account, "POST", "/transactions", _wanted(request))
        made = fields.inside(answer)
        state, code = _state(made), fields.text(fields.nested(made.get("pix")).get("qrcode"), limit=1000)
        if not (state.provider_id and code):
            raise BadGatewayAnswer("the answer has no id or no code")
        if state.amount_cents not in (None, request.amount_cents):
            raise BadGatewayAnswer("the charge has another amount")
        return Charge(provider_id=state.provider_id, pix_code=code, raw=answer)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        answer = http.if_known(lambda: self._ask(account, "GET", f"/transactions/{quote(provider_id, safe='')}"))
        if answer is None:
            return None
        state = _state(fields.inside(answer))
        if state.provider_id != provider_id:
            raise BadGatewayAnswer("the answer is about another charge")
        return state

    def parse_notice(self, notice: RawNotice) -> Notice:
        """The transaction, bare or in an envelope whose own id is another."""
        told = fields.inside(fields.json_notice(notice.body))
        state, reference = _state(told), fields.ident(notice.query.get("t"))
        if not (state.provider_id or reference):
            raise UnreadableNotice("the body names no transaction")
        about = (fields.text(told.get("paymentMethod")) or "pix").lower() == "pix"
        return Notice(
            reference=reference,
            provider_id=state.provider_id or None,
            state=state if about else None,
            event=state.raw_status,
            end_to_end_id=state.end_to_end_id,
        )

    def probe(self, account: Account) -> None:
        """Asks for a transaction that can't exist: good keys are told so, bad ones 401."""
        self.fetch_charge(account, "0", "")

    def _ask(self, account: Account, method: str, path: str, json: Any = None) -> dict[str, Any]:
        """Of the companies only those in the table can be chosen; the operator's address comes before any of theirs."""
        company = _COMPANIES.get(account.credentials.get("company") or self.kind)
        if company is None:
            raise GatewayMisconfigured(f"the company has to be one of {', '.join(_COMPANIES)}")
        if account.base_url == self.api_url:
            account = replace(account, base_url=company.api_url)
        return http.ask(account, method, path, headers=_headers(account, company), json=json)


def _headers(account: Account, company: _Company) -> dict[str, str]:
    names = ("public_key", "secret_key")
    keys = {name: http.credential(account, name) if account.credentials.get(name) else "" for name in names}
    user, _, password = company.login.format(**keys).partition(":")
    return http.basic(user, password)


def _wanted(request: ChargeRequest) -> dict[str, Any]:
    payer = request.payer
    document = payer.document or ""
    item = {
        "title": request.description,
        "unitPrice": request.amount_cents,
        "quantity": 1,
        "tangible": False,
        "externalRef": request.payment_id,
    }
    return {
        "amount": request.amount_cents,
        "currency": "BRL",
        "paymentMethod": "pix",
        "customer": {
            "name": payer.name,
            "email": payer.email,
            "phone": fields.national_phone(payer.phone),
            "document": {"type": "cpf" if len(document) == 11 else "cnpj", "number": document},
        },
        "items": [item],
        "postbackUrl": request.notice_url,
    }


def _state(told: dict[str, Any]) -> ChargeState:
    word = fields.text(told.get("status")) or ""
    return ChargeState(
        status=_STATUSES.get(word.lower(), Status.PENDING),
        provider_id=fields.ident(told.get("id")) or "",
        amount_cents=fields.cents(told.get("amount")),
        currency=fields.text(told.get("currency")) or "BRL",
        end_to_end_id=fields.ident(fields.nested(told.get("pix")).get("end2EndId")),
        raw_status=word,
    )


gateway = BlackCat()
