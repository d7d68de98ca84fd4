"""Where our own routes are reached, as customers, gateways and Telegram are told."""

from __future__ import annotations

from bot_manager.app import settings, vault
from models import Bot, Gateway


def get_webhook_url(gateway: Gateway) -> str:
    """The address for this account's notices; it carries the account's secret."""
    secret = vault().open(gateway.webhook_secret_sealed, "gateway.webhook_secret", gateway.seller_id)
    return f"{settings().address}/webhook/{gateway.kind}/{secret}"


def bot_webhook_url(bot: Bot) -> str:
    return f"{settings().address}/tg/{bot.public_id}"


def link_url(slug: str) -> str:
    return f"{settings().address}/go/{slug}"


def login_url(invitation: str) -> str:
    """The address at which an invited user sets their password, once."""
    return f"{settings().address}/convite/{invitation}"


def privacy_url(public_id: str) -> str:
    """The privacy notice of a bot."""
    return f"{settings().address}/privacidade/{public_id}"
