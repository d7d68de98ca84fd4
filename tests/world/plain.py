"""What fakes share whose notices are plain JSON, without a signature, to the address that came with the charge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tests.world.bank import Charge, Refund, br_code
from tests.world.calls import Refused
from tests.world.gateway import FakeGateway
from tests.world.notices import Notice


class PlainGateway(FakeGateway):
    """charges: {id: Charge}. words: what the company calls a charge that is pending, paid, refunded, ended."""

    words: Mapping[str, str]

    def pay(self, provider_id: str, notices: int = 1, *, amount: int | None = None) -> list[Notice]:
        """The buyer pays: the ledger says so from here on, and so many notices go out."""
        with self.lock:
            charge = self.charges[provider_id]
            charge.pay(amount)
        self.touch()
        return self.send_notice(charge, copies=notices)

    def send_notice(
        self, charge: Charge, word: str = "", *, changes: Mapping[str, Any] | None = None, copies: int = 1
    ) -> list[Notice]:
        """True unless told otherwise: another status word, changed fields. Nothing when the charge has no address."""
        if not charge.notice_url:
            return []
        body = self.told(charge, word or self.word(charge)) | dict(changes or {})
        headers = {"Content-Type": "application/json", **self.notice_headers(charge)}
        return self.post(charge.notice_url, json.dumps(body).encode(), headers, copies=copies)

    def hint(self, charge: Charge) -> object:
        return self.send_notice(charge, self.words["paid"])

    def told(self, charge: Charge, word: str) -> dict[str, Any]:
        """A notice's body."""
        raise NotImplementedError

    def notice_headers(self, charge: Charge) -> dict[str, str]:
        return {}

    def word(self, charge: Charge) -> str:
        if charge.refunds:
            return self.words["refunded"]
        return self.words["paid"] if charge.paid else self.words["ended"] if charge.ended else self.words["pending"]

    def open_charge(self, account: str, cents: int, url: Any, *, name: str = "", reference: str = "") -> Charge:
        charge = Charge(account, cents, "", reference, url or "")
        charge.id = name or charge.id
        charge.pix_code = br_code(f"pix.{self.kind}.example/qr/v2/{len(self.charges)}", cents)
        self.charges[charge.id] = charge
        return charge

    def find(self, provider_id: str, account: str, problem: Any) -> Charge:
        charge = self.charges.get(provider_id)
        if charge is None or charge.account != account:
            raise Refused(404, problem)
        return charge


def give_back(charge: Charge) -> None:
    """The whole charge."""
    charge.refunds.append(Refund(charge.id, charge.paid_cents or 0, datetime.now(UTC), done=True))


def cents_of(charge: Charge) -> int:
    return charge.cents if charge.paid_cents is None else charge.paid_cents


def is_cents(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_digits(value: Any, fewest: int, most: int) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit() and fewest <= len(value) <= most


def is_url(value: Any) -> bool:
    return isinstance(value, str) and urlsplit(value).scheme in ("http", "https")
