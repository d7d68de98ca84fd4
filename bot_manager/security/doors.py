"""Doors: which seller, and which thing of theirs, an address or a secret from outside leads to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert

from bot_manager import log
from bot_manager.app import vault
from bot_manager.database import patience
from bot_manager.security.vault import fingerprint
from models import Door, DoorKind, db

# Entering is one round trip: the row is found and the transaction acts for its seller from then on.
_ENTER = text(
    f"select seller_id, object_id, secret_hash, set_config('app.seller', seller_id::text, true), {patience.SERVER_SIDE}"  # noqa: S608
    " from door where kind = :kind and key = :key and (expires_at is null or expires_at > now())"
)

_CLOSE = text(
    "update door set expires_at = least(expires_at, now() + :window) where kind = :kind and object_id = :object"
    " returning now() + :window"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a door leads. secret_hash: the fingerprint that a header must have, where the door asks for one."""

    seller_id: int
    object_id: int
    secret_hash: str | None


def enter(kind: DoorKind, key: str) -> Entry | None:
    """Finds the door and acts for its seller from then on; None when there is no such door."""
    if "\0" in key:
        return None
    row = db.session.execute(_ENTER, {"kind": kind, "key": key}).one_or_none()
    if row is None:
        return None
    db.session().info["who"] = {"seller": str(row.seller_id), "operator": ""}
    log.seller_id.set(row.seller_id)
    return Entry(row.seller_id, row.object_id, row.secret_hash)


def enter_by_secret(kind: DoorKind, secret: str) -> Entry | None:
    return enter(kind, fingerprint(secret))


def put(kind: DoorKind, key: str, seller_id: int, object_id: int, secret: str | None = None) -> None:
    """Makes the door, or lets it lead elsewhere. secret: what the header at this door must carry."""
    values: dict[str, Any] = {"seller_id": seller_id, "object_id": object_id}
    values["secret_hash"] = fingerprint(secret) if secret else None
    statement = insert(Door).values(kind=kind, key=key, **values)
    db.session.execute(statement.on_conflict_do_update(index_elements=["kind", "key"], set_=values))


def close(kind: DoorKind, object_id: int, window: timedelta) -> datetime:
    """The doors that lead there now do so for `window` more, unless they end sooner; answers until when."""
    values = {"kind": kind, "object": object_id, "window": window}
    until: datetime = db.session.execute(_CLOSE, values).scalars().first() or datetime.now(UTC)
    return until


def telegram_secret(public_id: str) -> str:
    """What Telegram sends back in its secret header for this bot: derived, so that nothing has to be kept."""
    return vault().derived(f"telegram:{public_id}").hex()


def remove(kind: DoorKind, key: str) -> None:
    db.session.execute(text("delete from door where kind = :kind and key = :key"), {"kind": kind, "key": key})
