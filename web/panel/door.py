"""The ways in: the first address, choosing a shop, an invitation, the theme."""

from __future__ import annotations

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_security import current_user, login_user
from flask_wtf import FlaskForm
from sqlalchemy import delete, select

from bot_manager.app import look_across_sellers, settings
from bot_manager.security.doors import enter_by_secret
from bot_manager.security.vault import fingerprint
from models import Door, DoorKind, Seller, User, db
from web.panel import access, guesses, passwords

room = Blueprint("panel", __name__, template_folder="../templates")

THEMES = ("claro", "escuro", "auto")
A_YEAR = 365 * 24 * 3600


class PasswordForm(FlaskForm):  # type: ignore[misc]
    password = access.password_field()


@room.get("/")
def index() -> ResponseReturnValue:
    if not current_user.is_authenticated:
        return redirect(url_for("security.login"))
    shops = list(access.shops_of(current_user.id))
    if not shops:
        return redirect(url_for("start.index"))
    if len(shops) > 1:
        return redirect(url_for(".choose"))
    return redirect(url_for("shop.home.index", seller_id=shops[0]))


@room.get("/lojas")
def choose() -> ResponseReturnValue:
    if answer := access.require_user():
        return answer
    mine = list(access.shops_of(current_user.id))
    look_across_sellers()
    shops = db.session.scalars(select(Seller).where(Seller.id.in_(mine)).order_by(Seller.name)).all()
    return render_template("panel/shops.html", shops=shops)


@room.route("/convite/<secret>", methods=["GET", "POST"])
def invitation(secret: str) -> ResponseReturnValue:
    """Looking does not use it up: chats and mail programs fetch links by themselves."""
    entry = enter_by_secret(DoorKind.INVITE, secret)
    user = db.session.get(User, entry.object_id) if entry else None
    if entry is None or user is None:
        guesses.count_invitation()
        return render_template("panel/invitation_over.html"), 410
    form = PasswordForm()
    if form.validate_on_submit() and _take(secret, user, form.password.data):
        return redirect(url_for("shop.home.index", seller_id=entry.seller_id))
    seller = db.session.get_one(Seller, entry.seller_id)
    status = 422 if form.errors else 200
    return render_template("panel/invitation.html", form=form, user=user, seller=seller), status


def _take(secret: str, user: User, password: str) -> bool:
    """Deletes the invitation and sets the password: of two at the same time, one does."""
    door = Door.kind == DoorKind.INVITE, Door.key == fingerprint(secret)
    if db.session.scalar(delete(Door).where(*door).returning(Door.key)) is None:
        abort(409)
    passwords.change(user, password)
    db.session.commit()
    login_user(user, remember=True, authn_via=["password"])
    return True


@room.post("/tema")
def theme() -> ResponseReturnValue:
    access.csrf.protect()
    wanted = request.form.get("tema", "auto")
    answer = redirect(_own_page(request.form.get("volta", "/")), 303)
    secure = settings().address.startswith("https:")
    answer.set_cookie(
        "tema", wanted if wanted in THEMES else "auto", A_YEAR, secure=secure, httponly=True, samesite="Lax"
    )
    return answer


def _own_page(path: str) -> str:
    """The path if it is one of ours: browsers read `//host`, `/\\host` and `/<tab>/host` as another."""
    return path if path.isprintable() and path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
