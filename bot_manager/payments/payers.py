"""Who pays, as far as they told us: sealed with the customer's profile, asked for only when nothing else will do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bot_manager.app import vault
from bot_manager.funnels.payer import ORDER
from bot_manager.payments import decisions
from bot_manager.security.vault import CannotOpen
from gateways.base import Payer, PayerField
from models import Customer

PROFILE = "customer.profile"
_TOLD = "payer"  # apart from what the channel says of them: people write to their bank under another name


def of(customer: Customer) -> Payer:
    told = profile(customer).get(_TOLD, {})
    return Payer(**{field: told.get(field) for field in PayerField})


def learn(customer: Customer, field: PayerField, value: str) -> None:
    known = profile(customer)
    _seal(customer, {**known, _TOLD: {**known.get(_TOLD, {}), field: value}})


def meet(customer: Customer, person: dict[str, str]) -> None:
    """Keeps what the channel says of the person, beside what they told us themselves."""
    told = profile(customer).get(_TOLD)
    _seal(customer, {**person, _TOLD: told} if told else dict(person))


def to_be_asked(customer: Customer, amount_cents: int, *, test: bool) -> list[PayerField]:
    """What this customer must tell before they can be charged: nothing while any gateway would charge them as it is.

    Else what the gateway wants that would be asked first.
    """
    payer = of(customer)
    needs = decisions.needs(test, amount_cents, payer, datetime.now(UTC))
    return [field for field in ORDER if field in payer.lacks(needs)]


def profile(customer: Customer) -> dict[str, Any]:
    """What the channel told of the person, and what they told us; empty when that is nothing or can't be read."""
    if customer.profile_sealed is None:
        return {}
    try:
        found: dict[str, Any] = vault().open_json(customer.profile_sealed, PROFILE, customer.seller_id)
    except CannotOpen:
        return {}
    return found


def _seal(customer: Customer, known: dict[str, Any]) -> None:
    customer.profile_sealed = vault().seal_json(known, PROFILE, customer.seller_id)
