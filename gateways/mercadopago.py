"""Mercado Pago: amounts in reais, our reference as external_reference, notices that name a payment and no state.

Facts from its public documentation and its own SDK; what is only seen in other people's integrations, or remembered, is
marked in docs/gateways.md.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from gateways import fields, http
from gateways.base import (
    Account,
    Authenticity,
    BadGatewayAnswer,
    Charge,
    ChargeRequest,
    ChargeState,
    Credential,
    Dispute,
    DisputeState,
    Gateway,
    GatewayRefused,
    Notice,
    Page,
    Payer,
    PayerField,
    RawNotice,
    Status,
    UnreadableNotice,
    likeliest,
)

# in_mediation and charged_back are disputes, which are told apart from the payment's state.
_STATUSES = {
    "pending": Status.PENDING,
    "in_process": Status.PENDING,
    "authorized": Status.PENDING,
    "approved": Status.PAID,
    "rejected": Status.CANCELLED,
    "cancelled": Status.CANCELLED,
    "refunded": Status.REFUNDED,
}
_SHORTEST = timedelta(minutes=31)  # thirty are demanded when it arrives there
_PAGE = 50
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


class MercadoPago(Gateway):
    kind = "mercadopago"
    label = "Mercado Pago"
    api_url = "https://api.mercadopago.com"
    credentials = (
        Credential("access_token", "Access token"),
        Credential(
            "webhook_signing_secret",
            "Assinatura secreta do webhook",
            required=False,
            help="Em Suas integrações → Webhooks, copie a assinatura secreta. Com ela, avisos falsos são recusados.",
        ),
    )
    payer_needs = frozenset({PayerField.EMAIL})
    finds_by_reference = True
    refunds_parts = True
    cancels = True
    lists = True

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        headers = _headers(account) | {"X-Idempotency-Key": fields.derived("charge", request.reference)}
        answer = http.ask(account, "POST", "/v1/payments", headers=headers, json=_wanted(account, request))
        state = _state(answer)
        if state.status is Status.CANCELLED:
            raise GatewayRefused(f"Mercado Pago made no charge: {fields.text(answer.get('status_detail'), 60)}")
        if answer.get("external_reference") != request.reference or state.amount_cents != request.amount_cents:
            raise BadGatewayAnswer("the answer is about another charge")
        code = fields.text(_pix(answer).get("qr_code"), limit=1000)
        if not (state.provider_id and code):
            raise BadGatewayAnswer("the answer has no id or no code")
        return Charge(provider_id=state.provider_id, pix_code=code, raw=answer)

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        if not provider_id:
            return _find(account, reference)
        answer = http.if_known(lambda: http.ask(account, "GET", _path(provider_id), headers=_headers(account)))
        if answer is None:
            return None
        if answer.get("external_reference") not in (None, reference):
            raise BadGatewayAnswer("the answer is about another charge")
        return _same(answer, provider_id)

    def refund(self, account: Account, provider_id: str, reference: str, amount_cents: int) -> None:
        """In whole or in part. The same amount of the same charge is given back once, however often this is called."""
        headers = _headers(account) | {"X-Idempotency-Key": fields.derived("refund", reference, amount_cents)}
        wanted = {"amount": amount_cents / 100}
        answer = http.ask(account, "POST", f"{_path(provider_id)}/refunds", headers=headers, json=wanted)
        if answer.get("status") in ("rejected", "cancelled"):
            raise GatewayRefused("Mercado Pago did not give the money back")

    def cancel_charge(self, account: Account, provider_id: str, reference: str) -> None:
        wanted = {"status": "cancelled"}
        answer = http.ask(account, "PUT", _path(provider_id), headers=_headers(account), json=wanted)
        status = _same(answer, provider_id).status
        if status in (Status.PAID, Status.REFUNDED):
            raise GatewayRefused("the charge is paid")
        if status is Status.PENDING:
            raise BadGatewayAnswer("the charge is still open")

    def list_charges(self, account: Account, since: datetime, until: datetime, after: str = "") -> Page:
        """By their last change, which making and paying both are."""
        offset = int(after or 0)
        period = {"range": "date_last_updated", "begin_date": _time(since), "end_date": _time(until)}
        part = {"sort": "date_created", "criteria": "asc", "limit": str(_PAGE), "offset": str(offset)}
        answer = _search(account, {**period, **part})
        found = _results(answer)
        charges = tuple(_state(one) for one in found if one.get("payment_method_id") == "pix")
        seen = offset + len(found)
        total = fields.cents(fields.nested(answer.get("paging")).get("total")) or 0
        return Page(charges, str(seen) if found and seen < total else "")

    def verify(self, account: Account, notice: RawNotice) -> Authenticity:
        """The signature covers the id in the address and not the body: even when right it is a hint about that id."""
        secret = account.credentials.get("webhook_signing_secret")
        return Authenticity.FORGED if secret and not _signed(secret, notice) else Authenticity.UNSIGNED

    def parse_notice(self, notice: RawNotice) -> Notice:
        """Of two generations: {type, data: {id}}, and the older {topic, resource}."""
        body = fields.json_notice(notice.body)
        data, topic = fields.nested(body.get("data")), _topic(body, notice)
        about = Notice(
            reference=fields.ident(notice.query.get("t")),
            test=body.get("live_mode") is False,
            event=fields.text(body.get("action")) or topic,
        )
        match topic:
            case "payment":
                return replace(about, provider_id=_named(body, data, notice))
            case "topic_chargebacks_wh" | "chargebacks":
                return replace(about, provider_id=fields.ident(data.get("payment_id")), dispute=_dispute(data))
            case _:
                return about

    def probe(self, account: Account) -> None:
        """Asks for a list that is empty: a bad token is answered 401."""
        _search(account, {"external_reference": "no-such-charge", "limit": "1"})


def _wanted(account: Account, request: ChargeRequest) -> dict[str, Any]:
    ends = datetime.now(UTC) + max(timedelta(seconds=request.expires_in), _SHORTEST)
    wanted = {
        "transaction_amount": request.amount_cents / 100,
        "payment_method_id": "pix",
        "description": request.description[:200],
        "external_reference": request.reference,
        "date_of_expiration": _time(ends),
        "payer": _payer(request.payer),
    }
    if _reaches(account, request.notice_url):
        # Without `source_news` each event comes twice, the second time in the older form, which is never signed.
        wanted["notification_url"] = f"{request.notice_url}&source_news=webhooks"
    return wanted


def _reaches(account: Account, url: str) -> bool:
    """It refuses a charge whose address is on our own machine, unless it runs there too."""
    return urlsplit(url).hostname not in _HERE or urlsplit(account.base_url).hostname in _HERE


def _payer(payer: Payer) -> dict[str, Any]:
    """The e-mail is demanded; what else the buyer told us makes it refuse less."""
    known: dict[str, Any] = {"email": payer.email}
    if payer.name:
        first, _, last = payer.name.partition(" ")
        known |= {"first_name": first} | ({"last_name": last} if last else {})
    if payer.document:
        kind = "CPF" if len(payer.document) == 11 else "CNPJ"
        known["identification"] = {"type": kind, "number": payer.document}
    return known


def _headers(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.credentials['access_token']}"}


def _path(provider_id: str) -> str:
    return f"/v1/payments/{quote(provider_id, safe='')}"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _search(account: Account, query: dict[str, str]) -> dict[str, Any]:
    answer = http.ask(account, "GET", "/v1/payments/search", headers=_headers(account), query=query)
    if not isinstance(answer.get("results"), list):
        raise BadGatewayAnswer("the answer has no list")
    return answer


def _results(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in answer["results"] if isinstance(one, dict)]


def _find(account: Account, reference: str) -> ChargeState | None:
    """The one that is paid, if one is; else the newest."""
    answer = _search(account, {"external_reference": reference, "sort": "date_created", "criteria": "desc"})
    return likeliest(_state(one) for one in _results(answer) if one.get("external_reference") == reference)


def _same(answer: dict[str, Any], provider_id: str) -> ChargeState:
    state = _state(answer)
    if state.provider_id != provider_id:
        raise BadGatewayAnswer("the answer is about another charge")
    return state


def _pix(answer: dict[str, Any]) -> dict[str, Any]:
    return fields.nested(fields.nested(answer.get("point_of_interaction")).get("transaction_data"))


def _state(answer: dict[str, Any]) -> ChargeState:
    word = fields.text(answer.get("status")) or ""
    detail = fields.text(answer.get("status_detail")) or ""
    expired = (word, detail) == ("cancelled", "expired")
    return ChargeState(
        status=Status.EXPIRED if expired else _STATUSES.get(word, Status.PENDING),
        provider_id=fields.ident(answer.get("id")) or "",
        amount_cents=fields.cents_of_reais(answer.get("transaction_amount")),
        currency=fields.text(answer.get("currency_id")) or "BRL",
        paid_at=fields.when(answer.get("date_approved")),
        end_to_end_id=fields.ident(_pix(answer).get("e2e_id")),
        raw_status=f"{word} {detail}".strip(),
        fee_cents=_fee(answer),
        refunded_cents=fields.cents_of_reais(answer.get("transaction_amount_refunded")),
        reference=fields.ident(answer.get("external_reference")),
    )


def _fee(answer: dict[str, Any]) -> int | None:
    details = answer.get("fee_details")
    parts = details if isinstance(details, list) else []
    fees = [fields.cents_of_reais(fields.nested(part).get("amount")) for part in parts]
    return sum(fee for fee in fees if fee is not None) if fees and None not in fees else None


def _signed(secret: str, notice: RawNotice) -> bool:
    """The documentation wants the id in small letters, the SDK takes it as it came: either will do."""
    parts = dict(part.strip().split("=", 1) for part in notice.headers.get("x-signature", "").split(",") if "=" in part)
    about, given = notice.query.get("data.id", ""), parts.get("v1", "")
    request, at = notice.headers.get("x-request-id", ""), parts.get("ts", "")
    if not (about and given and at):
        return False
    manifests = [_manifest(one, request, at) for one in (about, about.lower())]
    return any(fields.same_secret(given, _mac(secret, one)) for one in manifests)


def _manifest(about: str, request: str, at: str) -> str:
    return f"id:{about};" + (f"request-id:{request};" if request else "") + f"ts:{at};"


def _mac(secret: str, manifest: str) -> str:
    return hmac.digest(secret.encode(), manifest.encode(errors="replace"), "sha256").hex()


def _topic(body: dict[str, Any], notice: RawNotice) -> str:
    words = (body.get("type"), body.get("topic"), notice.query.get("type"), notice.query.get("topic"))
    return next((word for word in map(fields.text, words) if word), "")


def _named(body: dict[str, Any], data: dict[str, Any], notice: RawNotice) -> str:
    """The payment. Only the address is signed: a body that names another one is not read."""
    resource = str(body.get("resource") or "").rpartition("/")[2]
    told = (notice.query.get("data.id"), notice.query.get("id"), data.get("id"), resource)
    ids = {one for one in map(fields.ident, told) if one}
    if len({one.lower() for one in ids}) != 1:
        raise UnreadableNotice("it names two payments" if ids else "it names no payment")
    return ids.pop()


def _dispute(data: dict[str, Any]) -> Dispute | None:
    """It says that something changed, and not what: how it ends is seen in the panel."""
    found = fields.ident(data.get("id"))
    return Dispute(found, DisputeState.OPENED) if found else None


gateway = MercadoPago()
