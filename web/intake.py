"""Telegram's updates, pushed: kept, then answered."""

from __future__ import annotations

import hmac

from flask import Blueprint, Response, abort, request

from bot_manager.bots import updates
from bot_manager.security import doors, events
from bot_manager.security.events import Kind
from bot_manager.security.vault import fingerprint
from models import DoorKind, db
from web.requests import is_packed, small_body

blueprint = Blueprint("intake", __name__)

SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105


@blueprint.post("/tg/<public_id>")
def update(public_id: str) -> Response:
    """200 once it is kept, 404 for an unknown bot or a wrong secret, 503 when it could not be kept."""
    entry = doors.enter(DoorKind.BOT, public_id)
    sent = fingerprint(request.headers.get(SECRET_HEADER, "")).encode()
    if entry is None or not hmac.compare_digest(sent, (entry.secret_hash or "").encode()):
        seller = entry.seller_id if entry else None
        events.report(Kind.WRONG_TELEGRAM_SECRET, seller, known_bot=entry is not None)
        db.session.commit()
        abort(404)
    updates.keep_pushed(entry.seller_id, entry.object_id, small_body(), packed=is_packed())
    db.session.commit()
    return Response(status=200)
