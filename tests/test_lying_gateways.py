"""Every gateway at its worst: it refuses, breaks, hangs, drips, floods and lies, in whatever it answers.

Whatever it does, the next one makes the code within the customer's patience, nobody is paid by a lie, nothing is left
unhandled, and once it tells the truth again the truth counts. A new provider's file is in these tests by itself.
"""

from __future__ import annotations

import copy
import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import pytest

from bot_manager.network import wire
from bot_manager.payments import charges, payers
from gateways import brcode, http
from tests.gateway_contract import PAYER, Contract, online, put
from tests.line import Line
from tests.shops import Shop, open_shop
from tests.world import Alter, Call, Cut, Fault, Garbage, Hang, ResetAfter, ResetBefore, SlowBytes, Status
from tests.world.server import Fake

CENTS = 4990
BIG = 10 * 1024 * 1024
Lie = Callable[["Liar"], Fault]


@dataclass
class Liar:
    """One provider of a shop whose other gateway is honest. elsewhere: where its redirects lead."""

    contract: Contract
    line: Line
    shop: Shop
    elsewhere: str
    first_answer: dict[str, Any] = field(default_factory=dict)

    @property
    def fake(self) -> Any:
        return self.line.world.gateways[self.contract.kind]

    def calls(self, what: str) -> Callable[[Call], bool]:
        method, path = self.contract.facts["calls"][what].split()
        return lambda call: call.method == method and fnmatchcase(call.path, f"{self.fake.base}{path}*")

    def making(self, lie: str) -> Callable[[Call], bool]:
        """The call that such a lie is an answer to, of those that make a charge."""
        apart = lie in ABOUT_THE_CODE and "code" in self.contract.facts["calls"]
        return self.calls("code" if apart else "create")

    def place(self, path: str) -> str:
        """Where an answer keeps it: what `contract.json` calls a part of a payload is an answer of its own."""
        part, _, rest = path.partition(".")
        return rest if part in self.contract.facts.get("parts", {}).values() else path

    @property
    def other_unit(self) -> int | float:
        """The right amount, in reais to who takes cents, in cents to who takes reais."""
        return CENTS if self.contract.facts.get("unit") == "reais" else CENTS / 100

    def row(self) -> dict[str, Any]:
        return self.line.rows("select * from gateway where id = :id", id=self.shop.gateways[self.contract.kind])[0]

    def well(self) -> None:
        """As if it had never failed."""
        self.line.change("update gateway set failures = 0, openings = 0, open_until = null, last_error = null")

    def changed(self, **values: Any) -> Alter:
        """The true answer with something else where the provider keeps "id", "code", "amount" or "status"."""

        def change(true: Any) -> Any:
            for what, value in values.items():
                for path in self.contract.facts["answer"][what]:
                    put(true, self.place(path), value)
            return json.dumps(true).encode()  # NaN as Python writes it: NaN

        return Alter(change)

    def word(self, status: str) -> str:
        """The provider's own word for it."""
        found = self.contract.load(f"charge_{status}")
        for part in self.contract.facts["answer"]["status"][0].split("."):
            found = found[part]
        return str(found)

    def paid(self, **values: Any) -> Alter:
        """A "paid" that is not true."""
        return self.changed(status=self.word("paid"), **values)

    def doubled(self, what: str, *lies: Any) -> Alter:
        """The true answer, whose key is there a second time with something else."""
        key = self.contract.facts["answer"][what][0].rpartition(".")[2]

        def change(true: Any) -> bytes:
            text = json.dumps(true)
            return text.replace(f'"{key}":', "".join(f'"{key}": {json.dumps(lie)}, ' for lie in lies) + f'"{key}":')

        return Alter(lambda true: change(true).encode())

    def of_another_sale(self) -> Alter:
        """What it answered the first time, whoever asks."""

        def change(true: Any) -> Any:
            self.first_answer = self.first_answer or copy.deepcopy(true)
            return self.first_answer

        return Alter(change)


def packed(body: bytes) -> Garbage:
    return Garbage(gzip.compress(body), headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})


def code(cents: int) -> str:
    return brcode.build(url="pix.example.com/1", amount_cents=cents, merchant_name="LOJA", merchant_city="RECIFE")


# To any question: what comes is no answer at all.
NO_ANSWER: dict[str, Lie] = {
    "server error": lambda liar: Status(500, {"message": "Internal Server Error"}),
    "hangs": lambda liar: Hang(),
    "hangs once it is done": lambda liar: Hang(after=True),
    "one byte a second": lambda liar: SlowBytes(1.0),
    "resets": lambda liar: ResetBefore(),
    "resets once it is done": lambda liar: ResetAfter(),
    "is cut off": lambda liar: Cut(),
    "HTML with 200": lambda liar: Garbage(),
    "ten megabytes": lambda liar: Garbage(b" " * BIG + b"{}"),
    "ten megabytes of JSON": lambda liar: Garbage(json.dumps({"id": "x" * BIG}).encode()),
    "a gzip bomb": lambda liar: packed(b" " * BIG * 5),
    "a redirect inwards": lambda liar: Status(302, None, {"Location": liar.elsewhere}),
    "a lasting redirect inwards": lambda liar: Status(308, None, {"Location": liar.elsewhere}),
    "nothing": lambda liar: Garbage(b""),
    "a list": lambda liar: Garbage(b"[]"),
    "too deep": lambda liar: Garbage(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "not UTF-8": lambda liar: Garbage(b'{"id": "\xff"}'),
    "a number too long": lambda liar: Garbage(b'{"id": ' + b"9" * 5000 + b"}"),
}
CHARGES: dict[str, tuple[str, Lie]] = {
    **{name: ("unknown", lie) for name, lie in NO_ANSWER.items()},
    "refuses": ("refused", lambda liar: Status(422, {"message": "limite da conta"})),
    "refuses the account": ("refused", lambda liar: Status(401, {"message": "no"})),
    "is down": ("unreachable", lambda liar: Status(503, {})),
    "has no time": ("unreachable", lambda liar: Status(429, {})),
    "no id": ("unknown", lambda liar: liar.changed(id=None)),
    "no code": ("unknown", lambda liar: liar.changed(code=None)),
    "an address for a code": ("unknown", lambda liar: liar.changed(code="https://example.com/qr.png")),
    "a code with a bad checksum": ("unknown", lambda liar: liar.changed(code=code(CENTS)[:-4] + "0000")),
    "a code for another amount": ("unknown", lambda liar: liar.changed(code=code(1))),
    "NaN": ("unknown", lambda liar: liar.changed(amount=float("nan"))),
    "a key twice": ("unknown", lambda liar: liar.doubled("code", code(1))),
    "another sale's charge": ("unknown", lambda liar: liar.of_another_sale()),
}
ABOUT_THE_CODE = {name for name in CHARGES if "code" in name} | {"a key twice"}
STATES: dict[str, Lie] = {
    **NO_ANSWER,
    "refuses": lambda liar: Status(400, {"message": "no"}),
    "is down": lambda liar: Status(503, {}),
    "paid, another charge": lambda liar: liar.paid(id="11111111-2222-4333-8444-555555555555"),
    "paid, no id": lambda liar: liar.paid(id=None),
    "paid, another amount": lambda liar: liar.paid(amount=CENTS - 1),
    "paid, a hundred times the amount": lambda liar: liar.paid(amount=CENTS * 100),
    "paid, nothing": lambda liar: liar.paid(amount=0),
    "paid, no amount": lambda liar: liar.paid(amount=None),
    "paid, in another unit": lambda liar: liar.paid(amount=liar.other_unit),
    "paid, with a part of a cent": lambda liar: liar.paid(amount=49.905),
    "paid, NaN": lambda liar: liar.paid(amount=float("nan")),
    "paid, infinitely much": lambda liar: liar.paid(amount=float("inf")),
    "paid, the status a list": lambda liar: liar.changed(status=[liar.word("paid")]),
    "paid, the status true": lambda liar: liar.changed(status=True),
    "paid, twice the key": lambda liar: liar.doubled("status", liar.word("paid")),
    "a word nobody knows": lambda liar: liar.changed(status="approved_maybe"),
}
EVERYDAY = ("pushinpay", "woovi")  # lying takes its time: the others do it in the slow run
each_provider = pytest.mark.parametrize(
    "contract",
    [
        pytest.param(contract, id=contract.kind, marks=[pytest.mark.slow] if contract.kind not in EVERYDAY else [])
        for contract in online()
    ],
)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charges, "PATIENCE_S", 2.4)
    monkeypatch.setattr(charges, "LEAST_TRY_S", 0.1)
    monkeypatch.setattr(payers, "of", lambda customer: PAYER)  # who told all that a provider may want
    monkeypatch.setattr(http, "_adapter", wire.Adapter(replace(http.BOUNDS, answer_s=1.0)))


@pytest.fixture
def trap() -> Iterator[Fake]:
    """A server on this machine that nobody has any business with."""
    with Fake() as listening:
        yield listening
        assert not listening.calls


@pytest.fixture
def liar(contract: Contract, line: Line, trap: Fake, hasty: None) -> Liar:
    honest = next(kind for kind in ("pushinpay", "woovi") if kind != contract.kind)
    shop = open_shop(line, gateways=(contract.kind, honest))
    return Liar(contract, line, shop, f"{trap.url}/admin")


def _charged(liar: Liar, name: str, lie: Lie) -> dict[str, Any]:
    """What became of a sale whose first gateway answers so."""
    liar.well()
    liar.fake.fail(liar.making(name), how=lie(liar), times=None)  # a token that is refused is replaced once
    (payment,) = liar.shop.open_sales(1)
    liar.shop.charge(payment)
    liar.fake.heal()
    (row,) = liar.line.rows("select * from payment where id = :id", id=payment)
    made = liar.line.rows("select * from charge_attempt where payment_id = :id order by id", id=payment)
    by_the_honest_one = row["gateway_id"] not in (None, liar.row()["id"])
    return {
        "first": made[0]["state"],
        "then": [attempt["state"] for attempt in made[1:]],
        "status": row["status"],
        "honest": by_the_honest_one,
        "held against it": liar.row()["failures"],
    }


@each_provider
def test_whatever_it_answers_to_a_charge_the_next_one_makes_the_code(liar: Liar) -> None:
    _charged(liar, "another sale's charge", Liar.of_another_sale)  # its first answer is true

    seen = {name: _charged(liar, name, lie) for name, (_, lie) in CHARGES.items()}

    well = {"then": ["made"], "status": "pending", "honest": True}
    assert seen == {
        name: {"first": state, **well, "held against it": int(name != "refuses")}
        for name, (state, _) in CHARGES.items()
    }
    assert not liar.line.world.paid()


@each_provider
def test_who_lies_five_times_is_left_alone(liar: Liar) -> None:
    liar.fake.fail(liar.making("no code"), how=liar.changed(code=code(1)), times=None)

    for payment in liar.shop.open_sales(6):
        liar.shop.charge(payment)

    asked = [call for call in liar.fake.calls if liar.calls("create")(call)]
    assert (len(asked), liar.row()["open_until"] is not None) == (5, True)


def _sales(liar: Liar, lies: dict[str, Lie]) -> dict[str, int]:
    """A sale with a code of this provider for each lie, which is what it will answer about that sale."""
    sold = dict(zip(lies, liar.shop.open_sales(len(lies)), strict=True))
    for name, payment in sold.items():
        liar.shop.charge(payment)
        liar.fake.fail(_questions(liar, payment), how=lies[name](liar), times=None)
    return sold


def _questions(liar: Liar, payment: int) -> Callable[[Call], bool]:
    """That are about this sale, by whichever of its names."""
    charge, asks = _charge_of(liar, payment), liar.calls("query")
    names = [name for name in (charge.id, charge.reference) if name]
    return lambda call: asks(call) and any(name in f"{call.path} {call.query}" for name in names)


def _charge_of(liar: Liar, payment: int) -> Any:
    """In the bank's books."""
    (row,) = liar.line.rows(
        "select a.provider_id, p.webhook_token from charge_attempt a join payment p on p.id = a.payment_id"
        " where p.id = :id",
        id=payment,
    )
    return next(
        charge
        for charge in liar.fake.charges.values()
        if row["provider_id"] == charge.id or row["webhook_token"] == charge.reference
    )


def _statuses(liar: Liar, sold: dict[str, int]) -> dict[str, str]:
    rows = {row["id"]: row["status"] for row in liar.shop.payments()}
    return {name: rows[payment] for name, payment in sold.items()}


def _look(liar: Liar, payment: int) -> None:
    with liar.line.seller(liar.shop.seller_id):
        charges.look(payment)


@each_provider
def test_whatever_it_answers_to_a_look_nobody_is_paid_by_a_lie_and_the_truth_counts_later(liar: Liar) -> None:
    sold = _sales(liar, STATES)

    for payment in sold.values():
        _look(liar, payment)
    assert _statuses(liar, sold) == dict.fromkeys(sold, "pending")

    liar.fake.heal()
    for payment in sold.values():
        _charge_of(liar, payment).pay()
        _look(liar, payment)
    assert _statuses(liar, sold) == dict.fromkeys(sold, "paid")


@each_provider
def test_whatever_it_answers_after_a_notice_nobody_is_paid_by_a_lie_and_no_job_dies(liar: Liar) -> None:
    no_answer = {"HTML with 200", "server error", "a redirect inwards", "resets"}  # the rest is a look's, above
    sold = _sales(liar, {name: lie for name, lie in STATES.items() if name not in NO_ANSWER or name in no_answer})
    liar.line.change("delete from provider_key")  # so that no notice proves anything

    for payment in sold.values():
        liar.fake.hint(_charge_of(liar, payment))
    liar.fake.wait_for(lambda: len(liar.line.rows("select 1 from webhook_receipt")) == len(sold))
    liar.line.change("delete from procrastinate_jobs where task_name = 'charge'")
    liar.line.work()

    assert _statuses(liar, sold) == dict.fromkeys(sold, "pending")
    assert not liar.line.rows("select task_name from procrastinate_jobs where status = 'failed'")
    asked = {"confirming", "mismatch", "ignored", "parked"}
    assert {row["state"] for row in liar.line.rows("select state from webhook_receipt")} <= asked


@each_provider
def test_paid_and_then_pending_is_paid(liar: Liar) -> None:
    sold = _sales(liar, {"truth": lambda _: Alter(lambda true: true)})
    liar.fake.heal()
    _charge_of(liar, sold["truth"]).pay()
    _look(liar, sold["truth"])
    liar.line.change("delete from provider_key")
    liar.fake.fail(liar.calls("query"), how=liar.changed(status=liar.word("pending")), times=None)

    _look(liar, sold["truth"])
    liar.fake.hint(_charge_of(liar, sold["truth"]))
    liar.fake.wait_for(lambda: liar.line.rows("select 1 from webhook_receipt"))
    liar.line.work()

    assert _statuses(liar, sold) == {"truth": "paid"}


MEASURE = """
import sys
from pathlib import Path
from gateways.base import Account, ChargeRequest, GatewayError
from tests.gateway_contract import online
kind, url = sys.argv[1:3]
(contract,) = [each for each in online() if each.kind == kind]
account = Account(url, contract.account.credentials)
def ask():
    try:
        contract.gateway.create_charge(account, contract.request, 1.0)
    except GatewayError:
        return
    raise AssertionError("it made a charge")
ask()
def worst():  # not getrusage: its maximum is the parent's, from before the exec
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])
before = worst()
for _ in range(int(sys.argv[3])):
    ask()
print(worst() - before)
"""


@each_provider
def test_an_answer_of_any_size_takes_little_memory(contract: Contract) -> None:
    """Kilobytes by which the process has grown, at the worst moment of all these calls."""
    floods = (
        Garbage(b" " * 4 * BIG),
        Garbage(json.dumps({"id": "x" * 4 * BIG}).encode()),
        packed(b" " * 20 * BIG),
        Garbage(b'{"a":' * 150_000 + b"1" + b"}" * 150_000),
    )
    with Fake() as flood:
        flood.fail("POST", how=Garbage(b"[]"))
        for how in floods:
            flood.fail("POST", how=how, times=5)
        command = [sys.executable, "-c", MEASURE, contract.kind, flood.url, "20"]
        grown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    assert int(grown) < 20 * 1024
