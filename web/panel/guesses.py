"""Guessing made slow: how often a password, or an invitation, may be tried, and by whom.

Counted by account and address together, so that a stranger locks out nobody but themselves; by address, against many
accounts; by account, widely, against many addresses. Who has logged in from around there before is spared the last
two: neither strangers behind the same proxy nor a crowd of them keep an owner out.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from flask_security.forms import LoginForm as SecurityLoginForm
from werkzeug.exceptions import TooManyRequests

from bot_manager.security import events, limits, logins
from bot_manager.security.limits import Limit, TooOften
from models import db
from web.panel import passwords
from web.requests import client_address

BOTH = Limit("account and address", 10, 60)
ADDRESS = Limit("address", 10, 6)
ACCOUNT = Limit("account", 100, 36)
INVITATION = Limit("invitation", 10, 6)


class LoginForm(SecurityLoginForm):
    """Flask-Security's, which does the same work for an unknown account as for a known one."""

    def validate(self, **options: Any) -> bool:
        email = (self.email.data or "").replace("\0", "").strip().lower()
        count_login(email)
        with passwords.in_turn():
            right = bool(super().validate(**options))
        if right:
            forget_login(email)
        return right


def count_login(email: str) -> None:
    """Takes one try at this account. Raises TooManyRequests."""
    address = client_address()
    _take(BOTH, email, _site(address))
    if not logins.has_been_at(email, address):
        _take(ADDRESS, _site(address))
        _take(ACCOUNT, email)


def forget_login(email: str) -> None:
    """The password was right: the try does not count. The caller commits."""
    site = _site(client_address())
    limits.fill(BOTH, email, site)
    limits.give_back(ADDRESS, site)
    limits.give_back(ACCOUNT, email)


def count_invitation() -> None:
    """One that leads nowhere was tried; those that lead somewhere are never counted. Raises TooManyRequests."""
    _take(INVITATION, _site(client_address()))


def _take(limit: Limit, *who: str) -> None:
    try:
        limits.take(limit, *who)
    except TooOften as too_often:
        events.report(events.Kind.GUESSED_TOO_OFTEN, limit=limit.name, network=logins.network(client_address()))
        db.session.commit()
        raise TooManyRequests(retry_after=too_often.wait_seconds) from None


def _site(address: str) -> str:
    """Who has one IPv6 address has 2**64 of them."""
    try:
        whole = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((whole, 64), strict=False)) if whole.version == 6 else address
