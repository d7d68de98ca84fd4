"""What a provider's folder `tests/payloads/<kind>/` holds, and how the contract tests play it.

contract.json           credentials, and for a provider with a network: reference, provider_id, amount_cents, `missing`
                        (the status it answers for a charge that it does not know), calls.{create,query} ("POST" and
                        the path's beginning, below the base, `*` for what differs), with calls.code where the code
                        comes of another call than the charge, `unit` ("reais" where amounts are not cents) and where
                        its answers keep things, as dotted paths (several where answers differ, a number for a place in a list):
                        answer.{id,code,amount,status}, notice.{id,amount,status} and, where it has them,
                        notice.{reference,currency,test} (with `test_word`, what its test environment says there);
                        notice_headers are static ones that come with each notice
                        `parts`, for a provider that takes several calls to one of ours: {"POST /oauth/token": {...}};
                        a text names a part of the answer under test ("qr" of create.json) instead of an answer, and ""
                        is what is left; `hint` names the notice of a provider whose notices never say "paid". Calls that are not named there get the answer under test, or its part "".
create.json             the answer to a create
charge_<status>.json    answers to a query, named after the status that we read from them
notice_<status>*.json   notices, likewise; notice_none_*.json say nothing of a sale's state;
                        notice_dispute_<state>*.json tell of a claim, …unlinked… without a word of which sale
list.json               the answer to a list with one paid charge, for a provider that `lists`

A provider that declares `signed` also has in its test file `signed_account() -> Account` and
`sign(body, key=...) -> headers`, with a `FOREIGN_KEY` to sign wrongly with, an `OLD_KEY` that is over in
`rotated_account() -> Account`, `weaker(body) -> headers` with proofs not to be taken, and the `SIGNATURE_HEADER`.
"""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import gateways
from gateways.base import Account, ChargeRequest, Gateway, Payer, RawNotice

PAYLOADS = Path(__file__).parent / "payloads"
BASE_URL = "https://gateway.test/base"
PAYER = Payer("Compradora de Teste", "compradora@example.com", "+5511987654321", "52998224725")
DAY = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass(frozen=True)
class Contract:
    """One provider, ready to be played with."""

    gateway: Gateway
    other_credentials: dict[str, str] | None = None

    @property
    def kind(self) -> str:
        return self.gateway.kind

    @property
    def facts(self) -> dict[str, Any]:
        return self.load("contract")

    @property
    def account(self) -> Account:
        return Account(base_url=BASE_URL, credentials=self.other_credentials or self.facts["credentials"])

    @property
    def request(self) -> ChargeRequest:
        return ChargeRequest(
            payment_id="BOT1_0123456789abcdef0123456789abcdef",
            reference=self.facts.get("reference", "a-reference"),
            amount_cents=self.facts.get("amount_cents", 4990),
            description="Curso Completo",
            notice_url=f"https://shop.example.com/webhook/{self.kind}/path-secret?t=a-reference",
            expires_in=1800,
            payer=PAYER,
        )

    def load(self, name: str) -> Any:
        return json.loads((PAYLOADS / self.kind / f"{name}.json").read_text())

    def names(self, prefix: str) -> list[str]:
        return sorted(path.stem for path in (PAYLOADS / self.kind).glob(f"{prefix}_*.json"))

    def changed(self, name: str, what: str, value: Any) -> Any:
        """A payload with something else where `contract.json` says that `what` ("answer.status") is."""
        payload = copy.deepcopy(self.load(name))
        group, field = what.split(".")
        put_all(payload, self.facts[group][field], value)
        return payload

    def create(self) -> Any:
        return self.gateway.create_charge(self.account, self.request)

    def fetch(self) -> Any:
        return self.gateway.fetch_charge(self.account, self.facts["provider_id"], self.facts["reference"])

    def refund(self) -> Any:
        facts = self.facts
        return self.gateway.refund(self.account, facts["provider_id"], facts["reference"], facts["amount_cents"])

    def probe(self) -> Any:
        return self.gateway.probe(self.account)

    def fetch_keys(self) -> Any:
        return self.gateway.fetch_public_keys(self.account)

    def cancel(self) -> Any:
        return self.gateway.cancel_charge(self.account, self.facts["provider_id"], self.facts["reference"])

    def list(self) -> Any:
        return self.gateway.list_charges(self.account, DAY, DAY + timedelta(days=1))

    def register(self) -> Any:
        return self.gateway.register_webhook(self.account, f"https://shop.example.com/webhook/{self.kind}/path-secret")

    def calls(self) -> list[str]:
        """Whatever goes over the network, by name."""
        edge = self.gateway
        more = {"refund": edge.refunds, "fetch_keys": edge.keys_path, "cancel": edge.cancels, "list": edge.lists}
        more["register"] = edge.registers
        return ["create", "fetch", "probe", *(name for name, has in more.items() if has)]

    def proof(self) -> ModuleType:
        """The provider's test file, which knows how its notices are signed."""
        return importlib.import_module(f"tests.test_{self.kind}")


def put(payload: Any, path: str, value: Any) -> bool:
    """False where the payload has no such place."""
    *parents, last = path.split(".")
    for parent in parents:
        if not _fits(payload, parent) or (isinstance(payload, dict) and parent not in payload):
            return False
        payload = inside(payload, parent)
    if fits := _fits(payload, last):
        payload[int(last) if isinstance(payload, list) else last] = value
    return fits


def _fits(payload: Any, name: str) -> bool:
    return isinstance(payload, list) == name.isdigit()


def put_all(payload: Any, paths: list[str], value: Any) -> None:
    """At each of these places that the payload has; it must have one."""
    done = [put(payload, path, value) for path in paths]
    assert any(done), f"none of {paths} is there"


def inside(payload: Any, name: str) -> Any:
    """What an object has under a name, or a list under a number."""
    return payload[int(name)] if isinstance(payload, list) else payload[name]


def everyone() -> list[Contract]:
    return [Contract(gateway) for gateway in gateways.all_gateways().values()]


def online() -> list[Contract]:
    return [contract for contract in everyone() if contract.gateway.api_url]


def pairs(prefix: str) -> Iterator[tuple[Contract, str]]:
    """Each provider with each of its payloads of that prefix."""
    return ((contract, name) for contract in everyone() for name in contract.names(prefix))


def notice(body: Any, headers: dict[str, str] | None = None, query: dict[str, str] | None = None) -> RawNotice:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return RawNotice(body=raw, headers=headers or {}, query=query or {})


def expected_status(name: str) -> str:
    """`notice_paid_other_payer` is paid, `notice_none_test_call` is none."""
    return name.split("_")[1]
