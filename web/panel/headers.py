"""What every answer says to the browser: nothing from other hosts, nothing inline, nothing framed, nothing kept."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response

from bot_manager.app import settings
from bot_manager.network import strict
from web.requests import small_body

logger = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self';"
    " report-uri /csp"
)
MAX_REPORT = 16 * 1024  # bytes
_MOST_KINDS = 100
_told: set[tuple[str, str]] = set()


def set_up(app: Flask) -> None:
    app.after_request(_guard)
    app.add_url_rule("/csp", "csp", report, methods=["POST"])


def _guard(response: Response) -> Response:
    kept = response.headers.setdefault
    kept("Content-Security-Policy", POLICY)
    kept("X-Content-Type-Options", "nosniff")
    kept("Referrer-Policy", "same-origin")
    kept("Cross-Origin-Opener-Policy", "same-origin")
    kept("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
    if settings().address.startswith("https:"):
        kept("Strict-Transport-Security", "max-age=31536000")
    kept("Cache-Control", "no-store")  # files say themselves how long
    return response


def report() -> tuple[str, int]:
    """A browser tells what the policy stopped; each kind is logged once, since anybody may call this."""
    kind = _kind(small_body(MAX_REPORT))
    if kind and kind not in _told and len(_told) < _MOST_KINDS:
        _told.add(kind)
        logger.warning("the content policy stopped something", extra={"directive": kind[0], "blocked": kind[1]})
    return "", 204


def _kind(body: bytes) -> tuple[str, str] | None:
    try:
        told: Any = strict.loads(body, MAX_REPORT)["csp-report"]
        blocked = urlsplit(str(told.get("blocked-uri", "")))
        directive = str(told.get("effective-directive") or told.get("violated-directive"))
        return directive[:60], f"{blocked.scheme}:{blocked.hostname or ''}"[:120]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
