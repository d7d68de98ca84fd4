"""Who pays, as far as they told us: sealed with the customer's profile, asked for only when nothing else will do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bot_manager.app import vault
from bot_manager.funnels.payer import ORDER
from bot_manager.payments import decisions
from gateways.base import Payer, PayerField
from models import Customer

PROFILE = "customer.profile"
_TOLD = "payer"  # apart from what the channel says of them: people write to their bank under another name


def of(customer: Customer) -> Payer:
    told = _profile(customer).get(_TOLD, {})
    return Payer(**{field: told.get(field) for field in PayerField})


def learn(customer: Customer, field: PayerField, value: str) -> None:
    profile = _profile(customer)
    _seal(customer, {**profile, _TOLD: {**profile.get(_TOLD, {}), field: value}})


def meet(customer: Customer, profile: dict[str, str]) -> None:
    """Keeps what the channel says of the person, beside what they told us themselves."""
    told = _profile(customer).get(_TOLD)
    _seal(customer, {**profile, _TOLD: told} if told else dict(profile))


def to_be_asked(customer: Customer, amount_cents: int, *, test: bool) -> list[PayerField]:
    """What this customer must tell before they can be charged: nothing while any gateway would charge them as it is.

    Else what the gateway wants that would be asked first.
    """
    payer = of(customer)
    needs = decisions.needs(test, amount_cents, payer, datetime.now(UTC))
    return [field for field in ORDER if field in payer.lacks(needs)]


def _profile(customer: Customer) -> dict[str, Any]:
    if customer.profile_sealed is None:
        return {}
    found: dict[str, Any] = vault().open_json(customer.profile_sealed, PROFILE, customer.seller_id)
    return found


def _seal(customer: Customer, profile: dict[str, Any]) -> None:
    customer.profile_sealed = vault().seal_json(profile, PROFILE, customer.seller_id)
