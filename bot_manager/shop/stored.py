"""What is stored of a seller's set-up, secrets opened."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import select

from bot_manager.app import vault
from models import Bot, Destination, Gateway, Link, Offer, Seller, db

Row = TypeVar("Row", Bot, Destination, Gateway, Link, Offer)


def seller_with(email: str) -> Seller | None:
    """Reads across sellers: see `bot_manager.app.look_across_sellers`."""
    return db.session.scalar(select(Seller).where(Seller.email == email))


def stored(model: type[Row], identity: str, seller_id: int | None) -> dict[str, Row]:
    """The seller's rows, archived ones too, by what identifies them in the file."""
    rows = db.session.scalars(select(model).where(model.seller_id == seller_id).order_by(model.id))
    return {getattr(row, identity): row for row in rows}


def held_credentials(gateway: Gateway) -> dict[str, str]:
    held: dict[str, str] = vault().open_json(gateway.credentials_sealed, "gateway.credentials", gateway.seller_id)
    return held


def held_token(bot: Bot) -> str | None:
    return vault().open(bot.token_sealed, "bot.token", bot.seller_id) if bot.token_sealed else None


def held_access_token(destination: Destination) -> str:
    return vault().open(destination.access_token_sealed, "destination.access_token", destination.seller_id)
