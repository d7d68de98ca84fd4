"""The Central Bank's Pix API (version 2), which most banks and payment institutions serve: what each file on it shares.

Facts from its public OpenAPI description (bacen/pix-api 2.9.0). A charge ("cob") is named by a txid that the receiver
chooses: ours is made from the reference, so asking twice makes one charge, and a charge is found without its answer.
"""

from __future__ import annotations

import json as json_text
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
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
    Dispute,
    DisputeState,
    Gateway,
    GatewayMisconfigured,
    GatewayRefused,
    GatewayUnreachable,
    Notice,
    Page,
    RawNotice,
    Status,
    UnreadableNotice,
)
from gateways.tokens import Tokens

_REMOVED = "REMOVIDA_PELO_USUARIO_RECEBEDOR"
_STATUSES = {
    "ATIVA": Status.PENDING,
    "CONCLUIDA": Status.PAID,
    _REMOVED: Status.CANCELLED,
    "REMOVIDA_PELO_PSP": Status.CANCELLED,
}
_OURS = re.compile(r"[0-9a-fA-F]{32}")
_DESCRIPTION = 140
_CLOCKS = timedelta(minutes=1)  # by which the provider's may be behind ours
_PAGE = "100"
_DAYS = {"cob": "cobs", "pix": "pix"}  # the two lists of a period, and where their answers keep it


class PixApi(Gateway):
    """What a provider's file adds: kind, label, api_url, and what its bank does in its own way."""

    credentials = (
        Credential("client_id", "Client ID"),
        Credential("client_secret", "Client Secret"),
        Credential(
            "certificate_pem",
            "Certificado (PEM)",
            help="O certificado e a chave privada, sem senha, um depois do outro no mesmo texto PEM.",
        ),
        Credential("pix_key", "Chave Pix", help="A chave da conta que recebe."),
    )
    finds_by_reference = True
    refunds_parts = True
    cancels = True
    lists = True
    oauth_path: ClassVar[str] = "/oauth/token"

    def __init__(self) -> None:
        self._tokens = Tokens(self._new_token)

    def normal_id(self, provider_id: str) -> str:
        """A txid of ours is in small letters; another's has capitals of its own."""
        return provider_id.lower() if _OURS.fullmatch(provider_id) else provider_id

    def make_charge(self, account: Account, request: ChargeRequest) -> Charge:
        txid = txid_of(request.reference)
        wanted = {
            "calendario": {"expiracao": request.expires_in},
            "valor": {"original": fields.reais(request.amount_cents)},
            "chave": account.credentials["pix_key"],
            "solicitacaoPagador": request.description[:_DESCRIPTION],
        }
        try:
            cob = self._ask(account, "PUT", _cob(txid), json=wanted)
        except GatewayRefused as refused:
            cob = self._made_before(account, txid, refused)
        self._check_same(cob, txid)
        if _asked(cob) not in (None, request.amount_cents):
            raise BadGatewayAnswer("the charge has another amount")
        return Charge(provider_id=txid, pix_code=self._code(account, cob), raw=cob)

    def _made_before(self, account: Account, txid: str, refused: GatewayRefused) -> dict[str, Any]:
        """The charge that made the txid be taken; else the refusal stands."""
        try:
            return self._ask(account, "GET", _cob(txid))
        except GatewayRefused:
            raise refused from None

    def _code(self, account: Account, cob: dict[str, Any]) -> str:
        """The charge exists by now: whatever goes wrong, nobody knows of a charge."""
        if code := fields.text(cob.get("pixCopiaECola"), limit=1000):
            return code
        location = fields.ident(fields.nested(cob.get("loc")).get("id"))
        if not location:
            raise BadGatewayAnswer("the answer has no code")
        try:
            answer = self._ask(account, "GET", f"/v2/loc/{quote(location, safe='')}/qrcode")
        except (GatewayRefused, GatewayMisconfigured, GatewayUnreachable) as why:
            raise BadGatewayAnswer(f"the charge is made and its code was not given: {why}") from None
        return fields.text(answer.get("qrcode"), limit=1000) or ""

    def fetch_charge(self, account: Account, provider_id: str, reference: str) -> ChargeState | None:
        cob = self._fetch(account, provider_id or txid_of(reference))
        return None if cob is None else _state(cob)

    def _fetch(self, account: Account, txid: str) -> dict[str, Any] | None:
        cob = http.if_known(lambda: self._ask(account, "GET", _cob(txid)))
        if cob is None:
            return None
        self._check_same(cob, txid)
        return cob

    def refund(self, account: Account, provider_id: str, reference: str, amount_cents: int) -> None:
        """In whole or in part. The same amount of the same charge is given back once, however often this is called."""
        cob = self._fetch(account, provider_id or txid_of(reference)) or {}
        paid = next((one for one in _list(cob.get("pix")) if fields.ident(one.get("endToEndId"))), None)
        if paid is None:
            raise GatewayRefused("nothing was paid that could go back")
        name = _refund_id(reference, amount_cents, _list(paid.get("devolucoes")))
        path = f"/v2/pix/{quote(paid['endToEndId'], safe='')}/devolucao/{name}"
        answer = self._give_back(account, path, amount_cents)
        if answer.get("status") == "NAO_REALIZADO":
            raise GatewayRefused(f"not given back: {fields.text(answer.get('motivo'), 80) or 'no reason told'}")

    def _give_back(self, account: Account, path: str, amount_cents: int) -> dict[str, Any]:
        """A name that was used before is refused: then what it became counts."""
        try:
            return self._ask(account, "PUT", path, json={"valor": fields.reais(amount_cents)})
        except GatewayRefused as refused:
            try:
                return self._ask(account, "GET", path)
            except GatewayRefused:
                raise refused from None

    def cancel_charge(self, account: Account, provider_id: str, reference: str) -> None:
        self._ask(account, "PATCH", _cob(provider_id or txid_of(reference)), json={"status": _REMOVED})

    def list_charges(self, account: Account, since: datetime, until: datetime, after: str = "") -> Page:
        """Charges made in the period, then the payments that came in it: a charge may be in both."""
        kind, _, number = (after or "cob:0").partition(":")
        query = {
            "inicio": _written(since),
            "fim": _written(until),
            "paginacao.paginaAtual": number,
            "paginacao.itensPorPagina": _PAGE,
        }
        answer = self._ask(account, "GET", f"/v2/{kind}", query=query)
        if not isinstance(answer.get(_DAYS[kind]), list):
            raise BadGatewayAnswer("the answer has no list")
        read = _state if kind == "cob" else _received
        found = tuple(read(one) for one in _list(answer[_DAYS[kind]]) if fields.ident(one.get("txid")))
        return Page(found, _next(kind, int(number), answer))

    def verify(self, account: Account, notice: RawNotice) -> Authenticity:
        """Who calls is known by the connection's certificate, which ends before us: for us, any notice is a hint."""
        return Authenticity.UNSIGNED

    def split(self, notice: RawNotice) -> tuple[RawNotice, ...]:
        """One for each payment, written in one way, so that it is the same notice in whatever company it comes."""
        try:
            payments = fields.json_notice(notice.body).get("pix")
        except UnreadableNotice:
            return (notice,)
        if not isinstance(payments, list) or len(payments) < 2:
            return (notice,)
        bodies = (json_text.dumps({"pix": [one]}, sort_keys=True, ensure_ascii=False) for one in payments)
        return tuple(RawNotice(body.encode(), notice.headers, notice.query, notice.flaw) for body in bodies)

    def parse_notice(self, notice: RawNotice) -> Notice:
        """Names the charge and says nothing of its state: a payment's notice has no status, and proves nothing."""
        body = fields.json_notice(notice.body)
        pix = _one_payment(body)
        if pix is None:
            return Notice(event=fields.text(body.get("evento")) or "")
        end_to_end_id = fields.ident(pix.get("endToEndId"))
        if not end_to_end_id:
            raise UnreadableNotice("the payment has no endToEndId")
        returned = _list(pix.get("devolucoes"))
        return Notice(
            provider_id=self._txid(pix),
            end_to_end_id=end_to_end_id,
            event=fields.text(pix.get("tipo")) or ("devolucao" if returned else "pix"),
            dispute=_dispute(returned),
        )

    def _txid(self, pix: dict[str, Any]) -> str | None:
        found = fields.ident(pix.get("txid"))
        return self.normal_id(found) if found else None

    def probe(self, account: Account) -> None:
        """Asks for a charge that can't exist: good credentials are told so, bad ones get no token."""
        self._fetch(account, txid_of("no such charge"))

    def _check_same(self, cob: dict[str, Any], txid: str) -> None:
        if self._txid(cob) != self.normal_id(txid):
            raise BadGatewayAnswer("the answer is about another charge")

    # The connection

    def _ask(
        self,
        account: Account,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        own = account.credentials["certificate_pem"]

        def ask(token: str) -> dict[str, Any]:
            sent = {**(headers or {}), "Authorization": f"Bearer {token}"}
            return http.ask(account, method, path, headers=sent, query=query, json=json, certificate=own)

        return self._tokens.call(account, ask)

    def _new_token(self, account: Account) -> tuple[str, float]:
        known = account.credentials
        headers = http.basic(known["client_id"], known["client_secret"])
        try:
            answer = http.ask(
                account,
                "POST",
                self.oauth_path,
                headers=headers,
                certificate=known["certificate_pem"],
                **self.token_request(),
            )
        except GatewayRefused as refused:  # some answer 400 to wrong credentials
            raise GatewayMisconfigured(str(refused)) from None
        token, seconds = fields.text(answer.get("access_token"), limit=8000), fields.cents(answer.get("expires_in"))
        if not token:
            raise BadGatewayAnswer("the answer has no access token")
        return token, float(seconds or 0)

    def token_request(self) -> dict[str, Any]:
        """What asks for a token: a form, by the standard."""
        return {"form": {"grant_type": "client_credentials"}}


def txid_of(reference: str) -> str:
    """26 to 35 letters and digits are wanted; 32, the same for the same reference."""
    return fields.derived("txid", reference)[:32]


def _refund_id(reference: str, amount_cents: int, made: list[dict[str, Any]]) -> str:
    """The same until a refund of that name was not done: its name can't be used again."""
    undone = {one.get("id") for one in made if one.get("status") == "NAO_REALIZADO"}
    names = (fields.derived("refund", reference, amount_cents, number)[:32] for number in range(len(undone) + 1))
    return next(name for name in names if name not in undone)


def _cob(txid: str) -> str:
    return f"/v2/cob/{quote(txid, safe='')}"


def _list(value: Any) -> list[dict[str, Any]]:
    """Objects in a list; one that stands alone is a list of one, as the description itself has it in an example."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _cents(value: Any) -> int | None:
    """Amounts are texts, "49.90": a number would be in a unit that nobody told us."""
    return fields.cents_of_reais(value) if isinstance(value, str) else None


def _asked(cob: dict[str, Any]) -> int | None:
    return _cents(fields.nested(cob.get("valor")).get("original"))


def _state(cob: dict[str, Any]) -> ChargeState:
    word = fields.text(cob.get("status")) or ""
    status = _STATUSES.get(word, Status.PENDING)
    if status is Status.PENDING and word == "ATIVA" and _is_over(fields.nested(cob.get("calendario"))):
        status = Status.EXPIRED
    payments = _list(cob.get("pix"))
    amount = _asked(cob)
    if amount is not None and payments:
        amount = _sum(payments)
    return _told(status, fields.ident(cob.get("txid")) or "", amount, payments, word)


def _received(pix: dict[str, Any]) -> ChargeState:
    """Of a payment in the list of those that came: being there is having been paid."""
    return _told(Status.PAID, fields.ident(pix.get("txid")) or "", _cents(pix.get("valor")), [pix], "")


def _told(status: Status, txid: str, amount: int | None, payments: list[dict[str, Any]], word: str) -> ChargeState:
    first = payments[0] if payments else {}
    back = _given_back(payments) if status is Status.PAID else 0
    return ChargeState(
        status=Status.REFUNDED if amount and back >= amount else status,
        provider_id=txid.lower() if _OURS.fullmatch(txid) else txid,
        amount_cents=amount,
        paid_at=fields.when(first.get("horario")),
        end_to_end_id=fields.ident(first.get("endToEndId")),
        raw_status=word,
        refunded_cents=back or None,
    )


def _is_over(calendar: dict[str, Any]) -> bool:
    """No status says so: it is the time of making and the seconds after it."""
    made, seconds = fields.when(calendar.get("criacao")), fields.cents(calendar.get("expiracao"))
    if made is None or seconds is None:
        return False
    return datetime.now(UTC) - made > timedelta(seconds=min(seconds, 10**9)) + _CLOCKS


def _sum(payments: list[dict[str, Any]]) -> int | None:
    amounts = [_cents(one.get("valor")) for one in payments]
    return sum(one for one in amounts if one is not None) if None not in amounts else None


def _given_back(payments: list[dict[str, Any]]) -> int:
    """By the seller. What went back through a dispute is the dispute's."""
    returns = [one for payment in payments for one in _list(payment.get("devolucoes"))]
    own = [one for one in returns if one.get("status") == "DEVOLVIDO" and not _is_disputed(one)]
    return sum(_cents(one.get("valor")) or 0 for one in own)


def _is_disputed(returned: dict[str, Any]) -> bool:
    return (fields.text(returned.get("natureza")) or "").startswith("MED_")


def _dispute(returns: list[dict[str, Any]]) -> Dispute | None:
    """The return that the payer's bank asked for. Done, the dispute is lost; not done, it is not thereby won."""
    claimed = [one for one in returns if _is_disputed(one)]
    name = fields.ident(claimed[-1].get("rtrId")) or fields.ident(claimed[-1].get("id")) if claimed else None
    if not name:
        return None
    last = claimed[-1]
    return Dispute(
        id=name,
        state=DisputeState.LOST if last.get("status") == "DEVOLVIDO" else DisputeState.OPENED,
        amount_cents=_cents(last.get("valor")),
        opened_at=fields.when(fields.nested(last.get("horario")).get("solicitacao")),
        reason=fields.text(last.get("natureza")) or "",
    )


def _one_payment(body: dict[str, Any]) -> dict[str, Any] | None:
    """None where the notice is about something else. Raises UnreadableNotice."""
    if "pix" not in body:
        return body if "endToEndId" in body else None
    payments = body["pix"]
    if not isinstance(payments, list) or len(payments) != 1 or not isinstance(payments[0], dict):
        raise UnreadableNotice("the body does not have one payment")
    # A payment that went out, or a charge that we are to pay: not a sale.
    return None if payments[0].get("tipo") == "SOLICITACAO" else payments[0]


def _written(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _next(kind: str, number: int, answer: dict[str, Any]) -> str:
    told = fields.nested(fields.nested(answer.get("parametros")).get("paginacao"))
    if number + 1 < (fields.cents(told.get("quantidadeDePaginas")) or 0):
        return f"{kind}:{number + 1}"
    return "pix:0" if kind == "cob" else ""
