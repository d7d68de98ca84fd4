"""What every route needs to know of a request: its body within bounds, its sender, its trace."""

from __future__ import annotations

from flask import abort, g, request

from bot_manager import log
from bot_manager.app import settings
from bot_manager.database import patience
from bot_manager.network import strict
from bot_manager.security import events
from web.proxies import client_ip

FORM = "application/x-www-form-urlencoded"
TAKE_BYTES = {"intake", "webhooks", "csp"}  # these keep or read what comes by themselves
PATIENCE_S = 5.0  # with the database, from when the whole request was here; who sends notices waits no longer either


def small_body(largest: int = strict.MAX_BYTES) -> bytes:
    """The raw body; ends the request with 413 when it has more bytes than `largest`."""
    if (request.content_length or 0) > largest:
        abort(413)
    body = request.get_data()
    if len(body) > largest:
        abort(413)
    return body


def is_packed() -> bool:
    return strict.is_packed(request.headers.get("Content-Encoding"))


def client_address() -> str:
    """The sender's address, as far as our own proxies vouch for it."""
    return client_ip(request.remote_addr or "", request.headers.get("X-Forwarded-For", ""), settings().trusted_proxies)


def refuse_odd_bodies() -> None:
    """Pages take forms and nothing else, read once, strictly, before anything looks into them. A packed one is 415."""
    if request.blueprint in TAKE_BYTES or request.endpoint in TAKE_BYTES:
        return
    if is_packed():
        abort(415)
    body = small_body()
    if body and request.mimetype != FORM:
        abort(415)
    try:
        strict.form(body)
    except strict.Unreadable:
        abort(400)


def begin_trace() -> None:
    """Threads are used again: what the last request bound must not stand in this one's logs.

    A request that waited for its thread has used up its time: a crowd that waits for a database that hangs is sent
    away as fast as it came.
    """
    patience.give(PATIENCE_S, since=request.environ.get("web.arrived"))
    g.trace_id = log.new_trace_id()
    log.trace_id.set(g.trace_id)
    log.seller_id.set(None)
    events.origin.set(client_address())


def forget_patience(_: BaseException | None) -> None:
    """What this thread does next has a deadline of its own, or none."""
    patience.forget()
