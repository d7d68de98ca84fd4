"""PushinPay: charges in cents, no customer data asked, notices without a signature.

Facts from its public documentation ("Criar PIX", "Consultar PIX"); what is only seen in other people's integrations is
marked in docs/gateways.md.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gateways import fields, http
from gateways.base import (
    Account,
    Authenticity,
    BadGatewayAnswer,
    Charge,
    ChargeRequest,
    ChargeState,
    Credential,
    Gateway,
    GatewayRefused,
    Notice,
    RawNotice,
    Status,
    UnreadableNotice,
)

_STATUSES = {
    "created": Status.PENDING,
    "paid": Status.PAID,
    "expired": Status.EXPIRED,
    "canceled": Status.CANCELLED,  # the documentation gives either this or expired
    "cancelled": Status.CANCELLED,
    "refunded": Status.REFUNDED,  # undocumented
}
_NO_CHARGE = "00000000-0000-0000-0000-000000000000"


class PushinPay(Gateway):
    kind = "pushinpay"
    label = "PushinPay"
    api_url = "https://api.pushinpay.com.br/api"
    credentials = (
        Credential("token", "Token da API"),
        Credential(
            "webhook_token",
            "Token do webhook",
            required=False,
            help="Se você configurou um cabeçalho x-pushinpay-token no painel da PushinPay, cole aqui o mesmo valor.",
        ),
    )
    minimum_cents = 50
    asks_a_second = 1.0  # its documentation asks not to be polled, and gives no number
    # Its terms, 4.10, ask for this where the offer is made and before the payment ends.
    buyer_notice = (
        "A PUSHIN PAY atua exclusivamente como processadora de pagamentos e não possui qualquer responsabilidade "
        "pela entrega, suporte, conteúdo, qualidade ou cumprimento das obrigações relacionadas aos produtos ou "
        "serviços oferecidos pelo vendedor."
    )

    def normal_id(self, provider_id: str) -> str:
        """Lower case: the same id comes in small letters when created and in capitals when queried."""
        return provider_id.lower()

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        """No idempotency is known: asked twice, it makes two charges."""
        wanted = {"value": request.amount_cents, "webhook_url": request.notice_url, "split_rules": []}
        answer = http.ask(account, "POST", "/pix/cashIn", headers=_headers(account), json=wanted)
        provider_id, code = fields.ident(answer.get("id")), fields.text(answer.get("qr_code"), limit=1000)
        if not (provider_id and code):
            raise BadGatewayAnswer("the answer has no id or no code")
        return Charge(provider_id=self.normal_id(provider_id), pix_code=code, raw=answer)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        path = f"/transactions/{quote(provider_id, safe='')}"
        answer = http.if_known(lambda: http.ask(account, "GET", path, headers=_headers(account)))
        if answer is None:
            return None
        state = self._state(answer)
        if state.provider_id != self.normal_id(provider_id):
            raise BadGatewayAnswer("the answer is about another charge")
        return state

    def refund(self, account: Account, provider_id: str, reference: str, amount_cents: int) -> None:
        """Whole charges only: its refund takes no amount."""
        state = self.fetch_charge(account, provider_id, reference)
        if state is None or state.amount_cents != amount_cents:
            raise GatewayRefused("PushinPay gives back a whole charge or nothing")
        http.send(
            account, "POST", f"/transactions/{quote(provider_id, safe='')}/refund", headers=_headers(account), json={}
        )

    def verify(self, account: Account, notice: RawNotice) -> Authenticity:
        return fields.static_token(
            notice.headers.get("x-pushinpay-token", ""), account.credentials.get("webhook_token")
        )

    def parse_notice(self, notice: RawNotice) -> Notice:
        body = _body(notice.body)
        state = self._state(body)
        if not state.provider_id:
            raise UnreadableNotice("the body has no id")
        return Notice(
            reference=fields.ident(notice.query.get("t")),
            provider_id=state.provider_id,
            state=state,
            event=state.raw_status,
            end_to_end_id=state.end_to_end_id,
        )

    def probe(self, account: Account) -> None:
        """Asks for a charge that can't exist: a good token is answered 404, a bad one 401."""
        self.fetch_charge(account, _NO_CHARGE, "")

    def _state(self, answer: dict[str, Any]) -> ChargeState:
        word = fields.text(answer.get("status")) or ""
        return ChargeState(
            status=_STATUSES.get(word.lower(), Status.PENDING),
            provider_id=self.normal_id(fields.ident(answer.get("id")) or ""),
            amount_cents=fields.cents(answer.get("value")),
            end_to_end_id=fields.ident(answer.get("end_to_end_id")),
            raw_status=word,
        )


def _headers(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.credentials['token']}"}


def _body(body: bytes) -> dict[str, Any]:
    """JSON or a form: both have been seen, whatever the content type said."""
    return fields.json_notice(body) if body.lstrip()[:1] == b"{" else fields.form_notice(body)


gateway = PushinPay()
