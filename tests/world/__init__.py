"""The world outside, at the network edge: strict fakes of the companies that a sale goes through.

    with World() as world:
        world.pushinpay.add_account("token")
        start_the_product(world.env())
        ...
        assert not world.refusals

All are real HTTP servers on the loopback, each in a thread of its own. They refuse what the real ones refuse; what
they refused is in `refusals`, and what the bank says is in `ledger()`.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Self

from tests.world.bank import Charge
from tests.world.calls import Call, Refusal
from tests.world.faults import (
    Alter,
    Cut,
    Delay,
    Fault,
    Garbage,
    Hang,
    Hold,
    ResetAfter,
    ResetBefore,
    SlowBytes,
    Status,
)
from tests.world.gateway import FakeGateway
from tests.world.meta import FakeMeta
from tests.world.pushinpay import FakePushinPay
from tests.world.server import Fake
from tests.world.telegram import FakeTelegram
from tests.world.woovi import FakeWoovi

__all__ = [
    "Alter",
    "Call",
    "Cut",
    "Delay",
    "Entry",
    "FakeGateway",
    "FakeMeta",
    "FakePushinPay",
    "FakeTelegram",
    "FakeWoovi",
    "Fault",
    "Garbage",
    "Hang",
    "Hold",
    "Refusal",
    "ResetAfter",
    "ResetBefore",
    "SlowBytes",
    "Status",
    "World",
]


@dataclass(frozen=True)
class Entry:
    """One charge in the bank's books. account: the token it was made with; provider_id: as the provider first wrote
    it; reference: ours, where the provider knows one; paid_cents: None until money came."""

    gateway: str
    account: str
    provider_id: str
    reference: str
    cents: int
    paid_cents: int | None
    paid_at: datetime | None
    refunded_cents: int
    end_to_end_id: str | None

    @classmethod
    def of(cls, gateway: str, charge: Charge) -> Self:
        return cls(
            gateway,
            charge.account,
            charge.id,
            charge.reference,
            charge.cents,
            charge.paid_cents,
            charge.paid_at,
            charge.refunded_cents,
            charge.end_to_end_id,
        )


class World:
    """All of them together. Webhooks of bots may be plain http, since the product under test has no certificate.

    more: kinds of gateways besides the two that most tests sell with; each is a server, and servers take time.
    """

    def __init__(self, *more: str) -> None:
        self.telegram = FakeTelegram(allow_http=True)
        self.pushinpay = FakePushinPay()
        self.woovi = FakeWoovi()
        self.meta = FakeMeta()
        self.gateways: dict[str, FakeGateway] = {"pushinpay": self.pushinpay, "woovi": self.woovi}
        for kind in more:
            self.gateways.setdefault(kind, import_module(f"tests.world.{kind}").FAKE())
        self._started = ExitStack()

    @property
    def fakes(self) -> tuple[Fake, ...]:
        return self.telegram, *self.gateways.values(), self.meta

    def __enter__(self) -> Self:
        for fake in self.fakes:
            self._started.enter_context(fake)
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def env(self) -> dict[str, str]:
        """The settings that point the product here."""
        return {
            "TELEGRAM_API_URL": self.telegram.url,
            "META_GRAPH_URL": self.meta.url,
            **{f"{kind.upper()}_API_URL": fake.url for kind, fake in self.gateways.items()},
        }

    @property
    def refusals(self) -> list[Refusal]:
        """All calls that the real companies would have refused; a healthy run has none."""
        return [refusal for fake in self.fakes for refusal in fake.refusals]

    def ledger(self) -> list[Entry]:
        """What the bank says: every charge at every gateway."""
        return [Entry.of(kind, charge) for kind, fake in self.gateways.items() for charge in fake.charges.values()]

    def paid(self) -> list[Entry]:
        """Where money came in."""
        return [entry for entry in self.ledger() if entry.paid_at]
