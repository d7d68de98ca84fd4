"""The tracking token: what `t.me/<bot>?start=<token>` carries from a click to the chat.

45 characters of A-Z a-z 0-9 _ - (Telegram takes 64): the letter `t` and, in base64url, 33 bytes::

    version 1 · issued at 4 (seconds since 1970) · seller 4 · random 10 · HMAC-SHA256 of what precedes, cut to 14

Signed, it tells a forged, foreign or old token without the database. It says nothing about the visitor.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MAX_AGE = timedelta(days=90)  # as long as Meta counts a click id

_PREFIX = "t"
_VERSION = 1
_FACTS = struct.Struct(">BII10s")
_SEAL_SIZE = 14
_SHAPE = re.compile(_PREFIX + r"[A-Za-z0-9_-]{44}")


class BadToken(ValueError):
    """The token can't be used."""


class Forged(BadToken):
    """Not one of ours: cut, altered, made up, or signed with a key no longer known."""


class Foreign(BadToken):
    """Ours, but another seller's."""


class Expired(BadToken):
    """Ours and this seller's, but too old."""


@dataclass(frozen=True, slots=True)
class TrackingToken:
    """A token that was found genuine. issued_at: aware UTC, whole seconds."""

    text: str
    seller_id: int
    issued_at: datetime


def generate_tracking_token(seller_id: int, key: bytes, now: datetime) -> str:
    """A new token; no two are alike. seller_id: below 2**32; now: aware."""
    facts = _FACTS.pack(_VERSION, int(now.timestamp()), seller_id, secrets.token_bytes(10))
    return _PREFIX + urlsafe_b64encode(facts + _seal(facts, key)).decode()


def read_tracking_token(
    token: str, seller_id: int, keys: Sequence[bytes], now: datetime, max_age: timedelta = MAX_AGE
) -> TrackingToken:
    """What a token says; `keys` are all that may have signed it. Raises Forged, Foreign or Expired, nothing else.

    A token from the future is good: it is ours, and a clock that was set back must not cost a sale its origin.
    """
    facts = _genuine_facts(token, keys)
    version, seconds, seller, _ = _FACTS.unpack(facts)
    if version != _VERSION:
        raise Forged("a version that was never made")
    if seller != seller_id:
        raise Foreign("another seller's token")
    issued_at = datetime.fromtimestamp(seconds, UTC)
    if now - issued_at > max_age:
        raise Expired(f"issued {issued_at:%Y-%m-%d}")
    return TrackingToken(token, seller, issued_at)


def _genuine_facts(token: str, keys: Sequence[bytes]) -> bytes:
    if not _SHAPE.fullmatch(token):
        raise Forged("not the shape of a token")
    raw = urlsafe_b64decode(token.removeprefix(_PREFIX))
    facts, seal = raw[: _FACTS.size], raw[_FACTS.size :]
    # Every key is tried, so that the time taken does not tell which one fits.
    fits = [hmac.compare_digest(_seal(facts, key), seal) for key in keys]
    if not any(fits):
        raise Forged("no key of ours signed this")
    return facts


def _seal(facts: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"tracking token" + facts, hashlib.sha256)[:_SEAL_SIZE]
