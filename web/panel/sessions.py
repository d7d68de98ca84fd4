"""The panel's session: Flask's signed cookie names a login, and the login's row decides.

Flask-Session was looked at and not taken: it keeps a row for every visitor who is merely shown a form, writes at each
request, and brings a serialiser and a cache library; what has to be on the server is who is logged in, and no more.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, current_app, g, request, session
from flask_login import user_logged_out
from flask_security import current_user, user_authenticated
from flask_security.utils import set_request_attr

from bot_manager.security import logins
from bot_manager.security.logins import Why
from models import User, db
from web.panel.devices import around, device
from web.requests import client_address

TOKEN = "login"  # noqa: S105  (its name in the session)


def set_up(app: Flask) -> None:
    manager: Any = app.extensions["security"].login_manager
    manager.user_loader(_load)
    manager.request_loader(lambda _request: None)  # Flask-Security's own would take tokens that no logout ends
    user_authenticated.connect(_begin, app)
    user_logged_out.connect(_end, app)
    app.before_request(_note_presence)
    app.jinja_env.filters["around"] = around


def _load(uniquifier: str) -> User | None:
    found = logins.find(str(session.get(TOKEN, "")), uniquifier)
    if found is None:
        return None
    user, g.login = found
    set_request_attr("fs_authn_via", "session")
    set_request_attr("fs_paa", session.get("fs_paa", 0))
    return user


def _begin(_app: Flask, user: User, **_: Any) -> None:
    """Whoever logs in gets a new name, and a new form token: what was in the browser before may be somebody's trap."""
    if TOKEN in session:
        logins.end(session[TOKEN], Why.REPLACED)
    session[TOKEN] = logins.begin(user.id, device(request.user_agent.string), client_address())
    # Flask-Login's own cookie to stay logged in would be a second key, without a row.
    session.permanent = session.pop("_remember", None) == "set"
    session.pop("csrf_token", None)
    g.pop("csrf_token", None)
    db.session.commit()


def _end(_app: Flask, **_: Any) -> None:
    if token := session.pop(TOKEN, None):
        logins.end(token, Why.LOGOUT)
        db.session.commit()


def _note_presence() -> None:
    """Before anything else was written: it commits."""
    has_cookie = current_app.config["SESSION_COOKIE_NAME"] in request.cookies
    if request.blueprint and has_cookie and current_user.is_authenticated:
        logins.seen(g.login)
