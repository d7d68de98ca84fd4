"""Gateways' notices: kept raw, then answered. What is answered says nothing of what the notice did."""

from __future__ import annotations

from flask import Blueprint, Response, abort, g, request

from bot_manager import notices
from gateways.base import RawNotice
from models import db
from web.requests import small_body

blueprint = Blueprint("webhooks", __name__)


@blueprint.post("/webhook/<kind>/<secret>")
def notice(kind: str, secret: str) -> Response:
    """200 once it is kept, 404 for a wrong secret, 401 for a forged one, 413 for a large one, 503 when not kept."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    raw = RawNotice(small_body(), headers, request.args.to_dict())
    try:
        notices.accept(kind, secret, raw, g.trace_id)
    except notices.NoSuchDoor:
        db.session.commit()
        abort(404)
    except notices.ForgedNotice:
        db.session.commit()
        abort(401)
    db.session.commit()
    return Response(status=200)
