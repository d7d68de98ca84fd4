"""`rotate-webhook`: another secret in the address of a gateway's notices, the old one good for some days more."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import timedelta

from sqlalchemy import select

from bot_manager import sellers
from bot_manager.addresses import get_webhook_url
from bot_manager.app import act_for, look_across_sellers
from bot_manager.commands.core import opened
from bot_manager.ops.processes import CannotRun
from bot_manager.settings import Settings
from models import Gateway, Seller, db


def main(settings: Settings, words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bot_manager rotate-webhook")
    parser.add_argument("email", help="the seller's, as in the shop file")
    parser.add_argument("gateway", help="its name, as in the shop file")
    parser.add_argument("--days", type=float, default=7, help="how long the old address is good; 0 ends it now")
    chosen = parser.parse_args(words)
    with opened(settings):
        told = rotate(chosen.email, chosen.gateway, max(0.0, chosen.days))
    sys.stdout.write(f"{json.dumps(told)}\n")
    return 0


def rotate(email: str, name: str, days: float) -> dict[str, str]:
    """In an app context: {"webhook_url", "old_one_good_until"}. Raises CannotRun."""
    gateway = _gateway(email, name)
    until = sellers.rotate_webhook_secret(gateway, timedelta(days=days))
    told = {"webhook_url": get_webhook_url(gateway), "old_one_good_until": until.isoformat(timespec="seconds")}
    db.session.commit()
    return told


def _gateway(email: str, name: str) -> Gateway:
    look_across_sellers()
    seller = db.session.scalar(select(Seller.id).where(Seller.email == email))
    if seller is None:
        raise CannotRun(f"there is no seller {email}")
    act_for(seller)
    gateway = db.session.scalar(select(Gateway).where(Gateway.name == name, Gateway.archived_at.is_(None)))
    if gateway is None:
        raise CannotRun(f"{email} has no gateway named {name}")
    return gateway
