"""Pages for customers, on the web."""

from __future__ import annotations

from flask import Blueprint, abort, render_template

from bot_manager.security import doors
from models import DoorKind, Seller, db

blueprint = Blueprint("public", __name__, template_folder="templates")


@blueprint.get("/privacidade/<public_id>")
def privacy(public_id: str) -> str:
    """What a bot's seller does with data."""
    entry = doors.enter(DoorKind.BOT, public_id) or abort(404)
    return render_template("public/privacy.html", seller=db.session.get_one(Seller, entry.seller_id))
