"""What every route needs to know of a request: its body within bounds, its sender, its trace."""

from __future__ import annotations

from flask import abort, g, request

from bot_manager import log
from bot_manager.app import settings
from web.proxies import client_ip

LARGEST_NOTICE = 256 * 1024


def small_body() -> bytes:
    """The raw body; ends the request with 413 when it is larger than any notice."""
    if (request.content_length or 0) > LARGEST_NOTICE:
        abort(413)
    body = request.get_data(cache=False)
    if len(body) > LARGEST_NOTICE:
        abort(413)
    return body


def client_address() -> str:
    """The sender's address, as far as our own proxies vouch for it."""
    return client_ip(request.remote_addr or "", request.headers.get("X-Forwarded-For", ""), settings().trusted_proxies)


def begin_trace() -> None:
    """Threads are used again: what the last request bound must not stand in this one's logs."""
    g.trace_id = log.new_trace_id()
    log.trace_id.set(g.trace_id)
    log.seller_id.set(None)
