"""A seller's gateway account as the edge wants it: opened credentials, the base address, the provider's public keys."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

import gateways
from bot_manager.app import settings, vault
from bot_manager.security.vault import CannotOpen
from gateways.base import Account
from models import Gateway, ProviderKey, db

_KEYS = select(ProviderKey.pem).where(ProviderKey.kind == bindparam("kind")).order_by(ProviderKey.pem)


UNOPENED = "its credentials do not open with the keys of this installation"


def account(gateway: Gateway) -> Account:
    """Raises CannotOpen."""
    credentials = vault().open_json(gateway.credentials_sealed, "gateway.credentials", gateway.seller_id)
    edge = gateways.get(gateway.kind)
    base_url = settings().gateway_urls.get(gateway.kind, edge.api_url)
    keys = tuple(db.session.scalars(_KEYS, {"kind": gateway.kind})) if edge.keys_path else ()
    return Account(base_url, credentials, keys)


def opened(gateway: Gateway) -> Account | None:
    """None when no key of this installation opens it: that costs this account, and must cost no other."""
    try:
        return account(gateway)
    except CannotOpen:
        return None


def note_error(gateway_id: int, error: str | None) -> None:
    """What the gateway last said no to, for the seller; None when it last said yes."""
    values = {"last_error": error and error[:300], "last_error_at": func.now() if error else None}
    db.session.execute(update(Gateway).where(Gateway.id == gateway_id).values(**values))


def fetch_public_keys(gateway: int) -> None:
    """A job: keeps the public keys of this gateway's provider. Raises GatewayError."""
    row = db.session.get_one(Gateway, gateway)
    kind, known = row.kind, opened(row)
    if known is None:
        note_error(gateway, UNOPENED)
    db.session.commit()
    if known is None:
        return
    keys = gateways.get(kind).fetch_public_keys(known)
    if keys:
        db.session.execute(delete(ProviderKey).where(ProviderKey.kind == kind, ProviderKey.pem.not_in(keys)))
        rows = [{"kind": kind, "pem": pem} for pem in keys]
        db.session.execute(insert(ProviderKey).on_conflict_do_nothing(), rows)
        db.session.commit()
