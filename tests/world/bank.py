"""What the bank says: the ledger that every payment fake keeps, and the PIX codes it hands out."""

from __future__ import annotations

import binascii
import secrets
import string
import uuid
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

# One grey point: enough of an image for whoever checks that it is one.
PNG = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg==")
PNG_URI = "data:image/png;base64," + b64encode(PNG).decode()
_ALPHANUMERIC = string.ascii_uppercase + string.digits


@dataclass
class Refund:
    """Money on its way back. reference: the caller's own id of it, where the company knows such a thing."""

    reference: str
    cents: int
    at: datetime
    done: bool = False


@dataclass(eq=False)
class Charge:
    """One charge, as the bank knows it. account: the token it was made with; paid_cents: what really came in."""

    account: str
    cents: int
    pix_code: str
    reference: str = ""
    notice_url: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    lifetime: timedelta = timedelta(hours=24)
    paid_at: datetime | None = None
    paid_cents: int | None = None
    end_to_end_id: str | None = None
    payer: dict[str, str] | None = None
    ended: str | None = None  # "expired" or "cancelled"
    refunds: list[Refund] = field(default_factory=list)

    @property
    def paid(self) -> bool:
        return self.paid_at is not None

    @property
    def refunded_cents(self) -> int:
        return sum(refund.cents for refund in self.refunds)

    def pay(self, cents: int | None = None) -> None:
        """Money came in. Raises AssertionError when it had come before: the bank takes a dynamic code once."""
        assert not self.paid, f"charge {self.id} was paid before"
        self.paid_at = datetime.now(UTC)
        self.paid_cents = self.cents if cents is None else cents
        self.end_to_end_id = end_to_end_id(self.paid_at)


def end_to_end_id(at: datetime, initial: str = "E") -> str:
    """The bank's own id of a transfer: letter, 8 digits of the payer's bank, minute in UTC, 11 more."""
    tail = "".join(secrets.choice(_ALPHANUMERIC) for _ in range(11))
    return f"{initial}00000000{at:%Y%m%d%H%M}{tail}"


def br_code(location: str, cents: int, *, long: bool = False) -> str:
    """A dynamic PIX code with a right CRC. location: at most 77 characters, without scheme.

    long: with the second location of a recurrence, which makes it pass 256 characters.
    """
    fields = [
        ("00", "01"),
        ("01", "12"),
        ("26", _tlv("00", "br.gov.bcb.pix") + _tlv("25", location)),
        ("52", "0000"),
        ("53", "986"),
        ("54", f"{cents // 100}.{cents % 100:02d}"),
        ("58", "BR"),
        ("59", "LOJA DE TESTE"),
        ("60", "SAO PAULO"),
        ("62", _tlv("05", "***")),
    ]
    if long:
        fields.append(("80", _tlv("00", "br.gov.bcb.pix") + _tlv("25", location[:77].ljust(77, "x"))))
    text = "".join(_tlv(*pair) for pair in fields) + "6304"
    return f"{text}{binascii.crc_hqx(text.encode(), 0xFFFF):04X}"


def _tlv(tag: str, value: str) -> str:
    assert len(value) <= 99, f"{tag} is too long for a PIX code"
    return f"{tag}{len(value):02d}{value}"
