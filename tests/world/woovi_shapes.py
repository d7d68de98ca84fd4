"""The JSON that Woovi speaks: charges, refunds, webhooks and notices."""

from __future__ import annotations

import uuid
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.world.bank import Charge, Refund

EVENTS = (
    "OPENPIX:CHARGE_CREATED",
    "OPENPIX:CHARGE_COMPLETED",
    "OPENPIX:CHARGE_COMPLETED_NOT_SAME_CUSTOMER_PAYER",
    "OPENPIX:CHARGE_EXPIRED",
    "OPENPIX:TRANSACTION_RECEIVED",
    "OPENPIX:TRANSACTION_REFUND_RECEIVED",
    "OPENPIX:DISPUTE_CREATED",
    "OPENPIX:DISPUTE_ACCEPTED",
    "OPENPIX:DISPUTE_REJECTED",
    "OPENPIX:DISPUTE_CANCELED",
    "PIX_TRANSACTION_REFUND_SENT_CONFIRMED",
    "PIX_TRANSACTION_REFUND_SENT_REJECTED",
    "PIX_TRANSACTION_REFUND_RECEIVED_CONFIRMED",
    "PIX_TRANSACTION_REFUND_RECEIVED_REJECTED",
)
_PAYER = {"name": "Compradora de Teste", "taxID": {"taxID": "11222333000181", "type": "BR:CNPJ"}}
_FEE = 85


@dataclass
class Webhook:
    """Where one kind of event of one account goes. authorization: sent back in that header, when set."""

    account: str
    event: str
    url: str
    name: str = ""
    authorization: str | None = None
    active: bool = True
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:24])
    hmac_secret: str = field(default_factory=lambda: "openpix_" + uuid.uuid4().hex)


def charge_shape(charge: Charge, url: str) -> dict[str, Any]:
    image = f"{url}/openpix/charge/brcode/image/{charge.id}.png"
    value = charge.cents if charge.paid_cents is None else charge.paid_cents
    pix = {
        "method": "PIX_COB",
        "transactionID": charge.id,
        "identifier": charge.id,
        "txId": charge.id,
        "value": value,
        "fee": _FEE,
        "status": _status(charge),
        "brCode": charge.pix_code,
        "qrCodeImage": image,
        "additionalInfo": [],
    }
    shape = {
        "status": _status(charge),
        "value": value,
        "comment": "",
        "correlationID": charge.reference,
        "identifier": charge.id,
        "transactionID": charge.id,
        "type": "DYNAMIC",
        "fee": _FEE,
        "discount": 0,
        "valueWithDiscount": value,
        "expiresIn": int(charge.lifetime.total_seconds()),
        "expiresDate": stamp(charge.created_at + charge.lifetime),
        "createdAt": stamp(charge.created_at),
        "updatedAt": stamp(charge.paid_at or charge.created_at),
        "brCode": charge.pix_code,
        "qrCodeImage": image,
        "paymentLinkID": charge.id,
        "paymentLinkUrl": f"{url}/pay/{charge.id}",
        "globalID": b64encode(f"Charge:{charge.id}".encode()).decode(),
        "additionalInfo": [],
        "customer": None,
        "paymentMethods": {"pix": pix},
    }
    return shape | ({"paidAt": stamp(charge.paid_at), "payer": _PAYER} if charge.paid_at else {})


def refund_shape(charge: Charge, refund: Refund, comment: str, end_to_end_id: str) -> dict[str, Any]:
    return {
        "status": "CONFIRMED" if refund.done else "IN_PROCESSING",
        "value": refund.cents,
        "correlationID": refund.reference,
        "refundId": refund.reference.replace("-", ""),
        "endToEndId": charge.end_to_end_id,
        "returnIdentification": end_to_end_id,
        "time": stamp(refund.at),
        "comment": comment,
    }


def webhook_shape(hook: Webhook) -> dict[str, Any]:
    return {
        "id": hook.id,
        "name": hook.name,
        "event": hook.event,
        "url": hook.url,
        "authorization": hook.authorization,
        "isActive": hook.active,
        "hmacSecretKey": hook.hmac_secret,
    }


def notice_body(charge: Charge, event: str, environment: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """changes: over the fields of the notice's `charge`, or of its main object where it has none."""
    company = {"id": "000000000000000000000001", "name": "Loja de Teste", "taxID": "11222333000181"}
    common = {"event": event, "company": company, "account": {"environment": environment}}
    name = event.partition(":")[2] or event
    if name.startswith("DISPUTE_"):
        return {"event": event, "dispute": _dispute(charge, name) | dict(changes)}
    if name.startswith("PIX_TRANSACTION_REFUND_"):
        return common | {"refundTransaction": _refund(charge) | dict(changes), "originalTransaction": _pix(charge)}
    if name == "TRANSACTION_RECEIVED":
        return common | {"charge": None, "pixQrCode": None, "pix": _pix(charge) | dict(changes), "refunds": []}
    shape = charge_shape(charge, "https://api.woovi.example") | dict(changes)
    pix = {"pix": _pix(charge) | {"charge": shape, "transactionID": charge.id}} if charge.paid else {}
    return common | {"charge": shape} | pix


def _pix(charge: Charge) -> dict[str, Any]:
    return {
        "payer": _PAYER,
        "customer": _PAYER,
        "value": charge.paid_cents,
        "time": stamp(charge.paid_at) if charge.paid_at else None,
        "endToEndId": charge.end_to_end_id,
        "status": "CONFIRMED",
        "type": "PAYMENT",
    }


def _refund(charge: Charge) -> dict[str, Any]:
    refund = charge.refunds[-1]
    return {
        "value": refund.cents,
        "time": stamp(refund.at),
        "endToEndId": charge.end_to_end_id,
        "status": "CONFIRMED",
        "type": "REFUND",
        "partial": refund.cents != charge.paid_cents,
    }


def _dispute(charge: Charge, name: str) -> dict[str, Any]:
    return {
        "status": "OPENED" if name == "DISPUTE_CREATED" else name.removeprefix("DISPUTE_"),
        "endToEndId": charge.end_to_end_id,
        "name": _PAYER["name"],
        "value": charge.paid_cents,
        "disputeReason": "Golpe",
    }


def _status(charge: Charge) -> str:
    if charge.paid:
        return "COMPLETED"
    is_late = datetime.now(UTC) > charge.created_at + charge.lifetime
    return "EXPIRED" if is_late or charge.ended else "ACTIVE"


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
