"""The redirect link: keeps the click and sends the visitor on to the bot. One insert, no call to anybody."""

from __future__ import annotations

from typing import cast

from flask import Blueprint, Response, make_response, redirect, render_template, request
from sqlalchemy import bindparam, select

from bot_manager.security import doors
from models import Bot, DoorKind, Link, db
from tracking.clicks import Visit, record
from web.requests import client_address

blueprint = Blueprint("redirect", __name__, template_folder="templates")

_LINK = select(Link, Bot.username, Bot.name).join(Bot, Bot.id == Link.bot_id).where(Link.id == bindparam("id"))


@blueprint.get("/go/<slug>")
def go(slug: str) -> Response:
    """302 to the bot, or a small page when the link says so; 503 while nobody knows the bot's name yet."""
    entry = doors.enter(DoorKind.LINK, slug)
    row = db.session.execute(_LINK, {"id": entry.object_id}).one_or_none() if entry else None
    if row is None:
        return _page("public/link_unknown.html", 404)
    link, username, name = row
    mode = link.mode  # after the commit it would have to be asked for again
    if not username:
        response = _page("public/link_waiting.html", 503)
        response.headers["Retry-After"] = "30"
        return response
    token = record(link, _visit())
    db.session.commit()
    address = f"https://t.me/{username}?start={token}"
    if mode == "page":
        return _page("public/link.html", 200, address=address, name=name or username)
    return _unkept(cast("Response", redirect(address, 302)))


def _visit() -> Visit:
    headers = {key.lower(): value for key, value in request.headers.items()}
    return Visit(client_address(), request.args, request.cookies, headers)


def _page(template: str, status: int, **values: str) -> Response:
    return _unkept(make_response(render_template(template, **values), status))


def _unkept(response: Response) -> Response:
    """Each visit is a click of its own, and the next site need not know of this one."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
