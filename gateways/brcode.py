"""BR Code, the text behind a PIX QR code: EMV fields (id, length, value) closed by a checksum.

Source: EMVCo "Merchant-Presented Mode" and the Central Bank's "Manual de Padrões para Iniciação do Pix".
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

GUI = "br.gov.bcb.pix"
MAX_LENGTH = 512
_AMOUNT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,2})?")
_HEADER = re.compile(r"[0-9]{4}")
_REQUIRED = {"52": "category", "53": "currency", "58": "country", "59": "merchant name", "63": "checksum"}
_REAIS = "986"


class NotABRCode(ValueError):
    """The text is no BR Code that a bank would take; the message says why and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class BRCode:
    """What a code says.

    amount_cents: None when the payer's bank learns it from `url`, or the payer types it.
    key: the receiver's PIX key (static codes); url: where the charge is read from, without scheme (dynamic codes);
    recurrence_url: of a PIX Automático, alone or beside one of them.
    txid: None when absent or `***`; dynamic codes often cut it.
    """

    amount_cents: int | None
    txid: str | None
    key: str | None
    url: str | None
    recurrence_url: str | None
    merchant_name: str
    merchant_city: str

    @property
    def dynamic(self) -> bool:
        return self.url is not None


def parse(code: str) -> BRCode:
    """Raises NotABRCode."""
    fields = _fields(_checked(code))
    for tag, name in _REQUIRED.items():
        if tag not in fields:
            raise NotABRCode(f"it has no {name} (field {tag})")
    if fields["53"] != _REAIS or fields["58"] != "BR":
        raise NotABRCode("it is not in Brazilian reais")
    account = _pix_account(fields)
    return BRCode(
        amount_cents=_cents(fields.get("54")),
        txid=_txid(fields),
        key=account.get("01"),
        url=account.get("25"),
        recurrence_url=_pix_templates(fields, "80", "99").get("25"),
        merchant_name=fields["59"],
        merchant_city=fields.get("60", ""),
    )


def build(
    *,
    key: str | None = None,
    url: str | None = None,
    amount_cents: int | None = None,
    merchant_name: str,
    merchant_city: str,
    txid: str = "***",
    info: str = "",
) -> str:
    """A code for a PIX key (static) or for an address (dynamic). Raises ValueError when a field is too long."""
    account = {"00": GUI, "01": key, "25": url, "02": info}
    code = _joined(
        {
            "00": "01",
            "01": "12" if url else None,
            "26": _joined(account),
            "52": "0000",
            "53": _REAIS,
            "54": None if amount_cents is None else f"{amount_cents // 100}.{amount_cents % 100:02}",
            "58": "BR",
            "59": merchant_name,
            "60": merchant_city,
            "62": _joined({"05": txid}),
        }
    )
    return f"{code}6304{checksum(code + '6304')}"


def checksum(text: str) -> str:
    """CRC-16/CCITT-FALSE, four upper-case hex digits."""
    return f"{binascii.crc_hqx(text.encode(), 0xFFFF):04X}"


def _checked(code: str) -> str:
    """The code, once its beginning and its checksum are right."""
    if not code.startswith("000201"):
        raise NotABRCode("it does not start with 000201")
    if len(code) > MAX_LENGTH:
        raise NotABRCode("it is too long")
    if not code.isprintable():
        raise NotABRCode("it has characters that can't be printed")
    if code[-8:-4] != "6304" or checksum(code[:-4]) != code[-4:].upper():
        raise NotABRCode("its checksum is wrong")
    return code


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for tag, value in _split(text):
        if tag in fields:
            raise NotABRCode(f"field {tag} comes twice")
        fields[tag] = value
    return fields


def _split(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        header = text[at : at + 4]
        if not _HEADER.fullmatch(header):
            raise NotABRCode("a field has no length")
        length = int(header[2:])
        at += 4 + length
        if at > len(text):
            raise NotABRCode(f"field {header[:2]} is shorter than it says")
        yield header[:2], text[at - length : at]


def _pix_account(fields: Mapping[str, str]) -> dict[str, str]:
    account = _pix_templates(fields, "26", "51")
    if not account:
        raise NotABRCode("it is not for PIX")
    return account


def _pix_templates(fields: Mapping[str, str], first: str, last: str) -> dict[str, str]:
    """The inner fields of the first template between the two tags that is PIX's; empty when there is none."""
    for tag, value in fields.items():
        if first <= tag <= last and value[4:18].lower() == GUI:
            return _fields(value)
    return {}


def _cents(amount: str | None) -> int | None:
    if amount is None:
        return None
    if not _AMOUNT.fullmatch(amount):
        raise NotABRCode("its amount is not a number")
    reais, _, cents = amount.partition(".")
    # Zero is how some providers write "not said here".
    return int(reais) * 100 + int(cents.ljust(2, "0")) or None


def _txid(fields: Mapping[str, str]) -> str | None:
    txid = _fields(fields.get("62", "")).get("05")
    return None if txid == "***" else txid


def _joined(fields: Mapping[str, str | None]) -> str:
    return "".join(f"{tag}{_length(value)}{value}" for tag, value in fields.items() if value)


def _length(value: str) -> str:
    if len(value) > 99:
        raise ValueError("a field of a BR Code holds at most 99 characters")
    return f"{len(value):02}"
