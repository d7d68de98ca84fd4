"""Reading values that a provider, or someone posing as one, has sent: the wrong type is None, never an exception."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import Any

from bot_manager.network import strict
from gateways.base import Authenticity, UnreadableNotice

_IDENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.:=+-]{0,127}")
_DIGITS = re.compile(r"[0-9]{1,12}")
_REAIS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,2}0{0,8})?")


def json_notice(body: bytes) -> dict[str, Any]:
    """A notice's body as the JSON object that every provider sends. Raises UnreadableNotice."""
    try:
        value = strict.loads(body)
    except strict.Unreadable as why:
        raise UnreadableNotice(f"the body {why}") from None
    if not isinstance(value, dict):
        raise UnreadableNotice("the body is not a JSON object")
    return value


def form_notice(body: bytes) -> dict[str, str]:
    """A notice's body as the form that some providers send. Raises UnreadableNotice."""
    try:
        return strict.form(body)
    except strict.Unreadable as why:
        raise UnreadableNotice(f"the body {why}") from None


def nested(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def inside(answer: dict[str, Any], envelope: str = "data") -> dict[str, Any]:
    """What is in the envelope; the whole where there is none: of some providers both are seen."""
    return nested(answer.get(envelope)) or answer


def derived(*parts: object) -> str:
    """Our own name for a thing, in hex, the same each time: what makes a provider do it once."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


def text(value: Any, limit: int = 200) -> str | None:
    """A string that says something, cut to `limit`."""
    return value.strip()[:limit] or None if isinstance(value, str) else None


def ident(value: Any) -> str | None:
    """An identifier; some providers write the same one as a number here and as a string there."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _IDENT.fullmatch(value) else None


def cents(value: Any) -> int | None:
    """Integer cents, given as a number or as digits. 49.90 is None: a unit that we did not expect is not guessed."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else None


def cents_of_reais(value: Any) -> int | None:
    """Integer cents of an amount in reais, given as a number or as "49.90". Parts of a cent are not rounded: None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    written = repr(value) if isinstance(value, float) else str(value)
    if not _REAIS.fullmatch(written):
        return None
    whole, _, part = written.partition(".")
    return int(whole) * 100 + int(part[:2].ljust(2, "0"))


def reais(cents: int) -> str:
    """4990 → "49.90", as the Central Bank and the shop file write amounts."""
    return f"{cents // 100}.{cents % 100:02d}"


def national_phone(phone: str | None) -> str:
    """The digits of an E.164 number, without the country where that is Brazil."""
    return (phone or "").removeprefix("+55").removeprefix("+")


def when(value: Any) -> datetime | None:
    """An ISO 8601 time as aware UTC; one without a zone is taken as UTC."""
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def static_token(given: str, wanted: str | None) -> Authenticity:
    """What a token that comes with each notice is worth, where the seller entered one: always the same, it proves
    little when right, and enough when wrong."""
    return Authenticity.FORGED if wanted and not same_secret(given, wanted) else Authenticity.UNSIGNED


def same_secret(given: str, wanted: str) -> bool:
    """In constant time, and for any text: `compare_digest` takes strings only when they are ASCII."""
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode(errors="replace"))
