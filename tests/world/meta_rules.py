"""What is wrong with an event: Meta's own rules, and those of ours that it would let pass in silence."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

_ACTION_SOURCES = frozenset(
    [
        "email",
        "website",
        "app",
        "phone_call",
        "chat",
        "physical_store",
        "system_generated",
        "business_messaging",
        "other",
    ]
)
_HASHED = frozenset(["em", "ph", "fn", "ln", "ge", "db", "ct", "st", "zp", "country", "external_id"])
_PLAIN = frozenset(
    [
        "client_ip_address",
        "client_user_agent",
        "fbc",
        "fbp",
        "subscription_id",
        "fb_login_id",
        "lead_id",
        "anon_id",
        "madid",
        "page_id",
        "page_scoped_user_id",
        "ctwa_clid",
        "ig_account_id",
        "ig_sid",
        "whatsapp_business_account_id",
    ]
)
_CUSTOM = frozenset(
    [
        "value",
        "currency",
        "content_ids",
        "contents",
        "content_name",
        "content_category",
        "content_type",
        "order_id",
        "num_items",
        "net_revenue",
        "predicted_ltv",
        "status",
        "search_string",
        "delivery_category",
    ]
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CLICK_COOKIE = re.compile(r"fb\.[0-2]\.\d{13}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]{2}|\.[A-Za-z0-9_-]{8})?")
_CPF = re.compile(r"(?<![0-9A-Za-z])(\d{3}\.?\d{3}\.?\d{3}-?\d{2})(?![0-9A-Za-z])")
_OLDEST, _SKEW = timedelta(days=7), timedelta(seconds=60)
_TOO_OLD, _FAULTY, _TOO_LITTLE = 2804003, 2804019, 2804050


@dataclass(frozen=True)
class Problem:
    text: str
    subcode: int = _FAULTY
    title: str = "Invalid event"


def problem_with(event: Any, at: datetime) -> Problem | None:
    """The first thing wrong with an event, or None. at: now."""
    if not isinstance(event, dict):
        return Problem("an event must be an object")
    found = (problem for check in _CHECKS for problem in check(event, at))
    return next(found, None)


def _names(event: dict[str, Any], at: datetime) -> Iterator[Problem]:
    for name in ("event_name", "event_time", "action_source", "user_data"):
        if event.get(name) in (None, ""):
            yield Problem(f"{name} is missing")
    if event["action_source"] not in _ACTION_SOURCES:
        yield Problem(f"action_source {event['action_source']!r} is unknown")
    if not isinstance(event["event_name"], str) or not isinstance(event.get("event_id", ""), str):
        yield Problem("event_name and event_id must be strings")


def _time(event: dict[str, Any], at: datetime) -> Iterator[Problem]:
    time = event["event_time"]
    if not isinstance(time, int) or isinstance(time, bool):
        yield Problem("event_time must be whole seconds")
    if time < (at - _OLDEST).timestamp():
        yield Problem("event_time is more than 7 days ago", _TOO_OLD, "Event Timestamp Too Old")
    if time > (at + _SKEW).timestamp():
        yield Problem("event_time is in the future", _TOO_OLD, "Event Timestamp In The Future")


def _website(event: dict[str, Any], at: datetime) -> Iterator[Problem]:
    if event["action_source"] != "website":
        return
    if not event["user_data"].get("client_user_agent"):
        yield Problem("a website event needs client_user_agent")
    url = urlsplit(str(event.get("event_source_url", "")))
    if url.scheme not in ("http", "https") or not url.hostname:
        yield Problem("a website event needs event_source_url")


def _messaging(event: dict[str, Any], at: datetime) -> Iterator[Problem]:
    if event["action_source"] == "business_messaging" and not event.get("messaging_channel"):
        yield Problem("a business_messaging event needs messaging_channel", 2804066)


def _money(event: dict[str, Any], at: datetime) -> Iterator[Problem]:
    custom = event.get("custom_data") or {}
    if not isinstance(custom, dict):
        yield Problem("custom_data must be an object")
    if unknown := set(custom) - _CUSTOM:
        yield Problem(f"custom_data has unknown fields: {sorted(unknown)}")
    if event["event_name"] != "Purchase" and "value" not in custom:
        return
    value = custom.get("value")
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        yield Problem("Purchase needs value, a number")
    if not re.fullmatch(r"[A-Z]{3}", str(custom.get("currency", ""))):
        yield Problem("Purchase needs currency, three letters of ISO 4217")


def _person(event: dict[str, Any], at: datetime) -> Iterator[Problem]:
    person = event["user_data"]
    if not isinstance(person, dict) or not any(person.values()):
        yield Problem("user_data is empty", _TOO_LITTLE, "Not enough customer information")
    if unknown := set(person) - _HASHED - _PLAIN:
        yield Problem(f"user_data has unknown fields: {sorted(unknown)}")
    for name in _HASHED & set(person):
        values = person[name] if isinstance(person[name], list) else [person[name]]
        if not values or not all(isinstance(value, str) and _SHA256.fullmatch(value) for value in values):
            yield Problem(f"{name} is not hashed")
    for name in _PLAIN & set(person):
        if not _PLAIN_CHECKS.get(name, _is_text)(person[name]):
            yield Problem(f"{name} can't be used: {person[name]!r}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_cookie(value: Any) -> bool:
    return isinstance(value, str) and bool(_CLICK_COOKIE.fullmatch(value))


def _is_ip(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


_PLAIN_CHECKS: dict[str, Callable[[Any], bool]] = {"fbc": _is_cookie, "fbp": _is_cookie, "client_ip_address": _is_ip}


def _documents(event: dict[str, Any], at: datetime) -> Iterator[Problem]:
    not_ours = ("fbc", "fbp", "client_user_agent", "client_ip_address")
    person = {key: value for key, value in event["user_data"].items() if key not in not_ours}
    for text in _texts({**event, "user_data": person}):
        for found in _CPF.findall(text):
            if is_cpf(found):
                yield Problem("something in it looks like a CPF")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        yield str(value)


def is_cpf(text: str) -> bool:
    digits = [int(character) for character in text if character.isdigit()]
    return len(digits) == 11 and len(set(digits)) > 1 and digits[9:] == [_check(digits[:9]), _check(digits[:10])]


def _check(digits: list[int]) -> int:
    rest = sum(digit * weight for digit, weight in zip(digits, range(len(digits) + 1, 1, -1), strict=True)) % 11
    return 0 if rest < 2 else 11 - rest


_CHECKS = (_names, _time, _person, _website, _messaging, _money, _documents)
