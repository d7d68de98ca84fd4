"""Meta's browser identifiers, `_fbc` (a click) and `_fbp` (a browser): `fb.<subdomain>.<creation, ms>.<payload>`.

They are case-sensitive and matched byte for byte: kept as they came, or not at all. Meta's own libraries append a
fifth part of 2 or 8 characters that says which of them wrote the value.
Source: developers.facebook.com/docs/marketing-api/conversions-api/parameters/fbp-and-fbc
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

LIFETIME = timedelta(days=90)  # of the cookies, and of a click id at Meta

_SHAPE = re.compile(r"fb\.[0-2]\.([0-9]{13})\.([A-Za-z0-9_-]{1,500})(?:\.[A-Za-z0-9_-]{2}|\.[A-Za-z0-9_-]{8})?")
_CLICK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)


class FacebookId(NamedTuple):
    """A valid `_fbc` or `_fbp`. payload: the fbclid of an `_fbc`, the random part of an `_fbp`."""

    created_at: datetime
    payload: str


def read_facebook_id(value: str | None, now: datetime) -> FacebookId | None:
    """The parts of an `_fbc` or `_fbp`; None when it is not one. A browser's clock may be a day ahead."""
    match = _SHAPE.fullmatch(value or "")
    if not match:
        return None
    created_at = _EPOCH + timedelta(milliseconds=int(match[1]))
    if not _EARLIEST <= created_at <= now + timedelta(days=1):
        return None
    return FacebookId(created_at, match[2])


def make_fbc(fbclid: str, at: datetime) -> str | None:
    """The `_fbc` of a click that came with `fbclid`; None when that holds what no click id does."""
    return f"fb.1.{_milliseconds(at)}.{fbclid}" if _CLICK_ID.fullmatch(fbclid) else None


def make_fbp(at: datetime) -> str:
    """A new `_fbp`, for a browser that has none."""
    return f"fb.1.{_milliseconds(at)}.{secrets.randbelow(2**31)}"


def choose_fbc(cookie: str | None, fbclid: str | None, at: datetime) -> str | None:
    """The `_fbc` of this visit: the cookie's, unless the address tells of a newer click.

    The same click keeps its first time, however often its page is loaded.
    """
    known = read_facebook_id(cookie, at)
    if fbclid and not (known and known.payload == fbclid) and (fresh := make_fbc(fbclid, at)):
        return fresh
    return cookie if known else None


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)
