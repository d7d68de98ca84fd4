"""Efí as its documentation and the Central Bank's description of the Pix API know it. The base URL is `fake.url`.

Kept on purpose: a token for Basic credentials, and a Bearer token for all else; a txid of 26 to 35 letters and digits
makes one charge and is refused the second time; the code is not in the charge but at its location; amounts are texts;
no status says that a charge is over; the id of a return is taken once; notices go to the key's address, with `/pix`
after it. What it does not have is the certificate: this server speaks plain http.
Texts of refusals are ours where the documentation has none.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.world.bank import PNG_URI, Charge, Refund, br_code, end_to_end_id
from tests.world.calls import Call, Refused
from tests.world.gateway import FakeGateway
from tests.world.notices import Notice
from tests.world.server import route

REMOVED = "REMOVIDA_PELO_USUARIO_RECEBEDOR"


class FakeEfi(FakeGateway):
    """charges: {txid: Charge}; a Charge's `id` is the txid, its account the client id. tokens: {token: client id}."""

    kind = "efi"
    tries = 10

    def __init__(self) -> None:
        super().__init__()
        self.webhooks: dict[str, str] = {}  # by Pix key
        self.tokens: dict[str, str] = {}
        self._accounts: dict[str, dict[str, str]] = {}
        self._locations: list[str] = []

    # The seller's side

    def open_account(self, number: int) -> dict[str, str]:
        credentials = {
            "client_id": f"efi-client-{number}",
            "client_secret": f"efi-secret-{number}",
            "certificate_pem": f"efi certificate {number}",
            "pix_key": f"loja{number}@example.com",
        }
        self._accounts[credentials["client_id"]] = credentials
        return credentials

    def connect(self, credentials: dict[str, str], url: str) -> None:
        self.webhooks[credentials["pix_key"]] = f"{url}?ignorar="

    # The buyer's and the bank's side

    def pay(self, charge: Charge, notices: int = 1, *, amount: int | None = None) -> list[Notice]:
        """The buyer pays: the ledger says so from here on, and so many notices go out."""
        with self.lock:
            charge.pay(amount)
        self.touch()
        return self.send_notice([charge], copies=notices)

    def send_notice(
        self, charges: list[Charge], *, changes: Mapping[str, Any] | None = None, copies: int = 1
    ) -> list[Notice]:
        """One notice about all of them. changes: over the fields of each payment."""
        pix = [{**payment(charge), "chave": self._key(charge), **(changes or {})} for charge in charges]
        url = self.webhooks.get(self._key(charges[0]))
        if not url:
            return []
        body = json.dumps({"pix": pix}).encode()
        return self.post(f"{url}/pix", body, {"Content-Type": "application/json"}, copies=copies)

    def hint(self, charge: Charge) -> object:
        return self.send_notice([charge])

    def _key(self, charge: Charge) -> str:
        return self._accounts[charge.account]["pix_key"]

    # The API

    def check(self, call: Call) -> None:
        if call.path != "/oauth/token" and _bearer(call) not in self.tokens:
            raise Refused(401, {"error": "invalid_token", "error_description": "Token inválido"})

    @route("POST", "/oauth/token")
    def token(self, call: Call) -> dict[str, Any]:
        kind, _, given = call.headers.get("authorization", "").partition(" ")
        name, _, secret = base64.b64decode(given).decode().partition(":") if kind == "Basic" else ("", "", "")
        if self._accounts.get(name, {}).get("client_secret") != secret or not secret:
            raise Refused(401, {"error": "invalid_client", "error_description": "Credenciais inválidas"})
        if (call.json or {}).get("grant_type") != "client_credentials":
            raise Refused(400, {"error": "unsupported_grant_type"})
        made = f"token-{len(self.tokens)}-{name}"
        self.tokens[made] = name
        return {"access_token": made, "token_type": "Bearer", "expires_in": 3600, "scope": "cob.write cob.read"}

    @route("PUT", "/v2/cob/{txid}")
    def create(self, call: Call, txid: str) -> dict[str, Any]:
        owner = self._accounts[self._owner(call)]
        cents, seconds = _validate(call.json, txid, owner["pix_key"])
        if txid in self.charges:
            raise _refused(409, "txid_duplicado", "Campo txid informado já foi utilizado em outra cobrança")
        charge = Charge(owner["client_id"], cents, "", id=txid, lifetime=timedelta(seconds=seconds))
        charge.pix_code = br_code(f"pix.efi.example/qr/v2/{txid}", cents)
        self.charges[txid] = charge
        self._locations.append(txid)
        return self._shape(charge)

    @route("GET", "/v2/cob/{txid}")
    def show(self, call: Call, txid: str) -> dict[str, Any]:
        return self._shape(self._find(call, txid))

    @route("PATCH", "/v2/cob/{txid}")
    def remove(self, call: Call, txid: str) -> dict[str, Any]:
        charge = self._find(call, txid)
        if (call.json or {}).get("status") != REMOVED or charge.paid or charge.ended:
            raise _refused(400, "cobranca_nao_pode_ser_alterada", "A cobrança não pode ser removida")
        charge.ended = "cancelled"
        return self._shape(charge)

    @route("GET", "/v2/cob")
    def list_charges(self, call: Call) -> dict[str, Any]:
        return {"parametros": {"paginacao": _pages(call)}, "cobs": [self._shape(one) for one in self._mine(call)]}

    @route("GET", "/v2/pix")
    def list_payments(self, call: Call) -> dict[str, Any]:
        paid = [payment(one) for one in self._mine(call) if one.paid]
        return {"parametros": {"paginacao": _pages(call)}, "pix": paid}

    @route("GET", "/v2/loc/{number}/qrcode")
    def code(self, call: Call, number: str) -> dict[str, Any]:
        charge = self._find(call, self._locations[int(number)])
        return {"qrcode": charge.pix_code, "imagemQrcode": PNG_URI, "linkVisualizacao": "https://pix.efi.example/cob"}

    @route("PUT", "/v2/pix/{transfer}/devolucao/{name}")
    def give_back(self, call: Call, transfer: str, name: str) -> dict[str, Any]:
        charge = self._paid_by(call, transfer)
        cents = _cents((call.json or {}).get("valor"))
        if not re.fullmatch("[a-zA-Z0-9]{1,35}", name) or any(one.reference == name for one in charge.refunds):
            raise _refused(400, "id_duplicado", "O id da devolução já foi utilizado")
        if not 0 < cents <= (charge.paid_cents or 0) - charge.refunded_cents:
            raise _refused(400, "valor_invalido", "O valor da devolução é inválido")
        charge.refunds.append(Refund(name, cents, datetime.now(UTC)))
        return returned(charge.refunds[-1])

    @route("GET", "/v2/pix/{transfer}/devolucao/{name}")
    def show_return(self, call: Call, transfer: str, name: str) -> dict[str, Any]:
        found = [one for one in self._paid_by(call, transfer).refunds if one.reference == name]
        if not found:
            raise _refused(404, "devolucao_nao_encontrada", "Devolução não encontrada")
        return returned(found[0])

    @route("PUT", "/v2/webhook/{key}")
    def register(self, call: Call, key: str) -> dict[str, Any]:
        url = (call.json or {}).get("webhookUrl") or ""
        if call.headers.get("x-skip-mtls-checking") != "true":
            raise _refused(400, "webhook_invalido", "A autenticação de TLS mútuo não está configurada na URL informada")
        if key.replace("%40", "@") != self._accounts[self._owner(call)]["pix_key"] or not url.startswith("http"):
            raise _refused(400, "webhook_invalido", "A chave ou a URL informada é inválida")
        self.webhooks[key.replace("%40", "@")] = url
        self.post(f"{url}/pix", b'{"evento": "teste_webhook"}', {"Content-Type": "application/json"})
        return {"webhookUrl": url}

    def unknown(self, call: Call) -> Refused:
        return _refused(404, "nao_encontrado", "Rota não encontrada")

    def _owner(self, call: Call) -> str:
        return self.tokens[_bearer(call)]

    def _mine(self, call: Call) -> list[Charge]:
        if not {"inicio", "fim"} <= set(call.query):
            raise _refused(400, "json_invalido", "inicio e fim são obrigatórios")
        return [charge for charge in self.charges.values() if charge.account == self._owner(call)]

    def _find(self, call: Call, txid: str) -> Charge:
        charge = self.charges.get(txid)
        if charge is None or charge.account != self._owner(call):
            raise _refused(404, "cobranca_nao_encontrada", "Nenhuma cobrança encontrada para o txid informado")
        return charge

    def _paid_by(self, call: Call, transfer: str) -> Charge:
        owner = self._owner(call)
        found = [one for one in self.charges.values() if one.account == owner and one.end_to_end_id == transfer]
        if not found:
            raise _refused(404, "pix_nao_encontrado", "Pix não encontrado")
        return found[0]

    # What an answer looks like

    def _shape(self, charge: Charge) -> dict[str, Any]:
        where = f"pix.efi.example/qr/v2/{charge.id}"
        shape = {
            "calendario": {"criacao": stamp(charge.created_at), "expiracao": int(charge.lifetime.total_seconds())},
            "txid": charge.id,
            "revisao": 0,
            "loc": {"id": self._locations.index(charge.id), "location": where, "tipoCob": "cob"},
            "location": where,
            "status": "CONCLUIDA" if charge.paid else REMOVED if charge.ended else "ATIVA",
            "valor": {"original": reais(charge.cents)},
            "chave": self._key(charge),
        }
        return shape | ({"pix": [payment(charge)]} if charge.paid else {})


def payment(charge: Charge) -> dict[str, Any]:
    """As notices and answers tell of it; for one that was not made, what a liar would say."""
    at = charge.paid_at or datetime.now(UTC)
    shape = {
        "endToEndId": charge.end_to_end_id or end_to_end_id(at),
        "txid": charge.id,
        "valor": reais(charge.cents if charge.paid_cents is None else charge.paid_cents),
        "horario": stamp(at),
        "infoPagador": "",
    }
    return shape | ({"devolucoes": [returned(one) for one in charge.refunds]} if charge.refunds else {})


def returned(refund: Refund) -> dict[str, Any]:
    return {
        "id": refund.reference,
        "rtrId": end_to_end_id(refund.at, "D"),
        "valor": reais(refund.cents),
        "horario": {"solicitacao": stamp(refund.at)},
        "status": "DEVOLVIDO" if refund.done else "EM_PROCESSAMENTO",
    }


def _validate(asked: Any, txid: str, key: str) -> tuple[int, int]:
    """Cents and seconds."""
    asked = asked if isinstance(asked, dict) else {}
    if not re.fullmatch("[a-zA-Z0-9]{26,35}", txid):
        raise _problem("cob.txid")
    seconds = (asked.get("calendario") or {}).get("expiracao", 86400)
    if not isinstance(seconds, int) or seconds < 1:
        raise _problem("cob.calendario.expiracao")
    if asked.get("chave") != key:
        raise _problem("cob.chave")
    if len(asked.get("solicitacaoPagador") or "") > 140:
        raise _problem("cob.solicitacaoPagador")
    cents = _cents((asked.get("valor") or {}).get("original"))
    if cents < 1:
        raise _problem("cob.valor.original")
    return cents, seconds


def _cents(value: Any) -> int:
    return int(value.replace(".", "")) if isinstance(value, str) and re.fullmatch(r"\d{1,10}\.\d{2}", value) else 0


def reais(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _pages(call: Call) -> dict[str, int]:
    return {"paginaAtual": int(call.query.get("paginacao.paginaAtual", 0)), "quantidadeDePaginas": 1}


def _problem(where: str) -> Refused:
    return _refused(400, "json_invalido", f"O campo {where} não respeita o schema")


def _refused(status: int, name: str, message: str) -> Refused:
    return Refused(status, {"nome": name, "mensagem": message})


def _bearer(call: Call) -> str:
    kind, _, token = call.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


FAKE = FakeEfi
