"""Gateways' notices: kept raw, then answered. What is answered says nothing of what the notice did."""

from __future__ import annotations

import logging

from flask import Blueprint, Response, abort, g, request
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from bot_manager.network import strict
from bot_manager.payments import notices
from gateways.base import RawNotice
from models import db
from web.requests import is_packed, small_body

logger = logging.getLogger(__name__)

blueprint = Blueprint("webhooks", __name__)


@blueprint.post("/webhook/<kind>/<secret>")
def notice(kind: str, secret: str) -> Response:
    """200 once it is kept, 404 for a wrong secret, 401 for a forged one, 413 for a large one, 503 when not kept."""
    try:
        _accept(kind, secret, _raw())
    except notices.NoSuchDoor:
        db.session.commit()
        abort(404)
    except notices.ForgedNotice:
        db.session.commit()
        abort(401)
    db.session.commit()
    return Response(status=200)


def _raw() -> RawNotice:
    """As it came; what can't be read of it is kept, and said."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    body = small_body()
    try:
        query = strict.form(request.query_string)
    except strict.Unreadable as why:
        return RawNotice(body, headers, {"": request.query_string.decode("latin-1")}, f"the address {why}")
    return RawNotice(body, headers, query, "the body is packed" if is_packed() else "")


def _accept(kind: str, secret: str, raw: RawNotice) -> None:
    """What nobody foresaw in a notice must not lose it: it is kept all the same, and a job tries, fails and is seen."""
    try:
        notices.accept(kind, secret, raw, g.trace_id)
    except (notices.NoSuchDoor, notices.ForgedNotice, OperationalError, InterfaceError, NoConnection):
        raise
    except Exception:
        logger.exception("a notice could not be handled")
        db.session.rollback()
        notices.accept(kind, secret, raw, g.trace_id, later=True)
