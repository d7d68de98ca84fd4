"""A payment's timeline, which is also its audit: what happened, when. Entries are added and never changed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import exists, insert, select

from models import Base, PaymentEvent, db

_ADD = insert(Base.metadata.tables["payment_event"])


def add(seller_id: int, payment_id: int, kind: str, **data: Any) -> None:
    """data: plain values, no secret and nothing personal."""
    db.session.execute(_ADD, {"seller_id": seller_id, "payment_id": payment_id, "kind": kind, "data": data})


def told(payment_id: int, kind: str, **data: Any) -> bool:
    """Whether there is such an entry already, with this among its data."""
    same = PaymentEvent.payment_id == payment_id, PaymentEvent.kind == kind, PaymentEvent.data.contains(data)
    return bool(db.session.scalar(select(exists().where(*same))))
