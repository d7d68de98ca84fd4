"""How Telegram says no. Texts are the Bot API's own, as far as they are known."""

from __future__ import annotations

from typing import Any

from tests.world.calls import Refused


def bad(text: str) -> Refused:
    return _refused(400, f"Bad Request: {text}")


def forbidden(text: str) -> Refused:
    return _refused(403, f"Forbidden: {text}")


def conflict(text: str) -> Refused:
    return _refused(409, f"Conflict: {text}")


def unauthorized() -> Refused:
    return _refused(401, "Unauthorized")


def not_found(text: str = "") -> Refused:
    return _refused(404, f"Not Found: {text}" if text else "Not Found")


def too_many(seconds: int) -> Refused:
    """seconds: whole, until another try may go through."""
    return _refused(429, f"Too Many Requests: retry after {seconds}", parameters={"retry_after": seconds})


def _refused(code: int, description: str, **more: Any) -> Refused:
    return Refused(code, {"ok": False, "error_code": code, "description": description, **more})
