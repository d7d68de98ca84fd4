"""Finding one thing of the shop's by what stands in an address, and saying whose it is."""

from __future__ import annotations

from typing import TypeVar

from flask import abort

import gateways
from bot_manager.payments.payers import profile
from models import Base, Customer, Gateway, db

BIGGEST_ID = 2**63 - 1

M = TypeVar("M", bound=Base)


def find(model: type[M], key: int) -> M:
    """The shop's row with that id; 404 when there is none, another shop's included."""
    found = db.session.get(model, key) if key <= BIGGEST_ID else None
    return found if found is not None else abort(404)


def name_of(customer: Customer) -> str:
    """ "Ana Prado", "@anap", or "Cliente 12" for someone who told nothing."""
    told = profile(customer)
    full = " ".join(str(told[part]) for part in ("first_name", "last_name") if told.get(part))
    username = f"@{told['username']}" if told.get("username") else ""
    return full or username or f"Cliente {customer.id}"


def account_name(gateway: Gateway) -> str:
    """What the seller calls this account."""
    return "recebimento de teste" if gateway.own else gateway.name


def gateway_label(kind: str) -> str:
    """The provider's own name; the kind, when its file is gone."""
    try:
        return gateways.get(kind).label
    except KeyError:
        return kind.capitalize()
