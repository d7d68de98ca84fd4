"""Access tokens that providers give for credentials, kept in this process until shortly before they end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from gateways.base import Account, BadGatewayAnswer, GatewayMisconfigured, GatewayTimeout, GatewayUnreachable

T = TypeVar("T")

MOST = 1000  # accounts; the one that was asked longest ago goes first
EARLY_S = 60.0  # so long before its end a token is asked for anew


class Tokens:
    """fetch: a new token and the seconds that it is good for. Raises GatewayError."""

    def __init__(self, fetch: Callable[[Account], tuple[str, float]]) -> None:
        self._fetch = fetch
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = Lock()

    def call(self, account: Account, ask: Callable[[str], T]) -> T:
        """Asks with a token; once more with a new one when the provider does not take the one we held."""
        held = self._known(account)
        if held is None:
            return ask(self._new(account))
        try:
            return ask(held)
        except GatewayMisconfigured:
            return ask(self._new(account))

    def _known(self, account: Account) -> str | None:
        with self._lock:
            token, ends = self._held.get(_key(account), ("", 0.0))
        return token if ends > time.monotonic() else None

    def _new(self, account: Account) -> str:
        try:
            token, seconds = self._fetch(account)
        except (GatewayTimeout, BadGatewayAnswer) as error:
            raise GatewayUnreachable(f"no access token: {error}") from None  # nothing was asked for with it
        key = _key(account)
        with self._lock:
            self._held.pop(key, None)
            self._held[key] = token, time.monotonic() + seconds - EARLY_S
            while len(self._held) > MOST:
                del self._held[next(iter(self._held))]
        return token


def _key(account: Account) -> str:
    """Not the credentials themselves: what is kept for long should open nothing."""
    parts = [account.base_url, *(f"{name}={value}" for name, value in sorted(account.credentials.items()))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
