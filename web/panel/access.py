"""Who is at the panel: logging in (Flask-Security), forged forms, and the shops that a user may enter.

Flask-Security says who somebody is, as long as the row of their login stands (`sessions`); what they may see is their
Membership, looked up on every request. A shop that is not theirs does not exist: 404, whatever the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flask import Blueprint, Flask, Response, abort, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_security import current_user
from flask_security.core import Security
from flask_security.datastore import SQLAlchemyUserDatastore
from flask_wtf import CSRFProtect
from flask_wtf.csrf import CSRFError
from sqlalchemy import select
from wtforms import PasswordField
from wtforms.validators import InputRequired, Length

from bot_manager.app import act_for, settings
from bot_manager.security import logins
from bot_manager.sellers import OPERATOR
from models import Membership, Role, Seller, User, db
from web.panel import sessions
from web.panel.guesses import LoginForm

HOME_ZONE = ZoneInfo("America/Sao_Paulo")
PASSWORD_MIN = 10
# 40 CPU-ms and 19 MiB, in one thread: a flood of logins must leave the processors to others.
ARGON2 = {"argon2__memory_cost": 19456, "argon2__time_cost": 2, "argon2__parallelism": 1}
WRONG_LOGIN = "E-mail ou senha não conferem."

csrf = CSRFProtect()


@dataclass(frozen=True, slots=True)
class Place:
    """Where the user is: the shop, their role in it, its time zone, and whether they have other shops."""

    seller: Seller
    role: str
    zone: ZoneInfo
    others: bool


def set_up(app: Flask) -> None:
    app.config.update(_configuration(app))
    csrf.init_app(app)  # before Security, which looks for it
    Security(app, SQLAlchemyUserDatastore(db, User, Role), login_form=LoginForm)
    sessions.set_up(app)
    app.before_request(_only_from_here)
    app.before_request(_check_security_forms)
    app.context_processor(_surroundings)


def _configuration(app: Flask) -> dict[str, Any]:
    derived = app.extensions["vault"].derived
    https = app.extensions["settings"].address.startswith("https:")
    cookie = {"SECURE": https, "HTTPONLY": True, "SAMESITE": "Lax"}
    messages = ("INVALID_PASSWORD", "USER_DOES_NOT_EXIST", "GENERIC_AUTHN_FAILED", "DISABLED_ACCOUNT")
    required = {"EMAIL_NOT_PROVIDED": "Escreva seu e-mail.", "PASSWORD_NOT_PROVIDED": "Escreva sua senha."}
    return {
        "SECRET_KEY": derived("session"),
        "SECURITY_PASSWORD_SALT": derived("password").hex(),
        "SECURITY_PASSWORD_HASH": "argon2",
        "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS": ARGON2,
        "SECURITY_RETURN_GENERIC_RESPONSES": True,
        "SECURITY_LOGIN_USER_TEMPLATE": "panel/login.html",
        "SECURITY_LOGOUT_METHODS": ["POST"],
        "SECURITY_STATIC_FOLDER": None,
        "SECURITY_FRESHNESS": timedelta(minutes=-1),  # no route that asks for the password again
        "SECURITY_CACHE_CONTROL": {"no-store": None},
        "SECURITY_FLASH_MESSAGES": False,
        "WTF_CSRF_CHECK_DEFAULT": False,  # only the panel has cookies to protect; see protect()
        "WTF_CSRF_TIME_LIMIT": None,
        "SESSION_COOKIE_NAME": "__Host-panel" if https else "panel",
        "SESSION_REFRESH_EACH_REQUEST": False,
        "PERMANENT_SESSION_LIFETIME": logins.LONGEST,
        **{f"SESSION_COOKIE_{name}": value for name, value in cookie.items()},
        **{f"SECURITY_MSG_{name}": (WRONG_LOGIN, "error") for name in messages},
        **{f"SECURITY_MSG_{name}": (text, "error") for name, text in required.items()},
    }


def password_field() -> PasswordField:
    """A new password, in a form."""
    length = Length(PASSWORD_MIN, 128, f"Use pelo menos {PASSWORD_MIN} caracteres.")
    return PasswordField(validators=[InputRequired("Escolha uma senha."), length])


def _surroundings() -> dict[str, Any]:
    return {"place": g.get("place"), "is_operator": is_operator, "theme": request.cookies.get("tema", "auto")}


def guard(shop: Blueprint) -> None:
    """Everything below this blueprint belongs to one seller, whose id is in the address."""
    shop.url_value_preprocessor(_take_seller_id)
    shop.url_defaults(_put_seller_id)
    shop.before_request(enter_shop)
    shop.before_request(csrf.protect)


def _take_seller_id(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    g.seller_id = (values or {}).pop("seller_id")


def _put_seller_id(_endpoint: str, values: dict[str, Any]) -> None:
    if "seller_id" in g:
        values.setdefault("seller_id", g.seller_id)


def enter_shop() -> ResponseReturnValue | None:
    if not current_user.is_authenticated:
        return log_in_first()
    roles = shops_of(current_user.id)
    if g.seller_id not in roles:
        abort(404)
    act_for(g.seller_id)
    seller = db.session.get_one(Seller, g.seller_id)
    g.place = Place(seller, roles[g.seller_id], zone(seller.timezone), len(roles) > 1)
    return None


def shops_of(user_id: int) -> dict[int, str]:
    """The user's role in each shop that they may enter, the oldest shop first."""
    mine = select(Membership.seller_id, Membership.role).where(Membership.user_id == user_id)
    return dict(db.session.execute(mine.order_by(Membership.seller_id)).all())


def require_user() -> ResponseReturnValue | None:
    return None if current_user.is_authenticated else log_in_first()


def log_in_first() -> ResponseReturnValue:
    login = url_for("security.login", next=request.full_path.rstrip("?") if request.method == "GET" else None)
    if "HX-Request" in request.headers:
        return Response(status=401, headers={"HX-Redirect": url_for("security.login")})
    return redirect(login)


def is_operator() -> bool:
    return bool(current_user.is_authenticated and current_user.has_role(OPERATOR))


def _only_from_here() -> None:
    """What browsers say of where a form stands. It must be one of ours, even with the right token in it."""
    origin = request.headers.get("Origin")
    if origin is None or request.method in ("GET", "HEAD", "OPTIONS") or not _has_forms(request.blueprint):
        return
    if urlsplit(origin).netloc not in (request.host, urlsplit(settings().address).netloc):
        raise CSRFError("The form stands on another site.")


def _has_forms(blueprint: str | None) -> bool:
    return blueprint is not None and blueprint not in ("intake", "webhooks")


def _check_security_forms() -> None:
    # Logging out has no form class of its own that would check.
    if request.blueprint == "security":
        csrf.protect()


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return HOME_ZONE


def here() -> ZoneInfo:
    """The time zone in which this page shows times."""
    place: Place | None = g.get("place")
    return place.zone if place else HOME_ZONE
